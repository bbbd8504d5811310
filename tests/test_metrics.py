"""Metrics against scikit-learn, and what chooses by them."""

import math

import pytest
import torch
from conftest import compose
from sklearn.metrics import balanced_accuracy_score, f1_score, top_k_accuracy_score

from resnet.build import build_metrics
from resnet.config import UserError
from resnet.config.measured import metric_name
from resnet.config.names import METRICS
from resnet.config.upgrade import upgraded
from resnet.metrics import BalancedAccuracy, CalibrationError, MacroF1, Top5
from resnet.training.loop import Progress

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(9, (300,), generator=GENERATOR)  # of the ten classes the last has no images
SCORES = torch.randn(300, 10, generator=GENERATOR) + 2 * torch.nn.functional.one_hot(LABELS, 10)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_they_are_scikit_learns() -> None:
    answers = SCORES.argmax(1)
    assert BalancedAccuracy()(SCORES, LABELS) == pytest.approx(balanced_accuracy_score(LABELS, answers))
    assert MacroF1()(SCORES, LABELS) == pytest.approx(f1_score(LABELS, answers, average="macro"))
    assert Top5()(SCORES, LABELS) == pytest.approx(top_k_accuracy_score(LABELS, SCORES, k=5, labels=range(10)))


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated() -> None:
    scores = torch.tensor([[0.8, 0.2]]).log().expand(10, 2)
    assert CalibrationError()(scores, torch.tensor([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-6)
    assert CalibrationError()(scores, torch.zeros(10, dtype=torch.long)) == pytest.approx(0.2, abs=1e-6)


def test_names_are_those_of_the_classes() -> None:
    assert all(metric_name(target) == name for name, target in METRICS.items())


def test_one_that_chooses_is_measured() -> None:
    assert list(build_metrics(compose("choose_by=val/macro_f1"))) == ["macro_f1"]
    assert list(build_metrics(compose("metrics=[accuracy,top5]"))) == ["top5"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("choose_by=val/acuracy", "did you mean val/accuracy?"),
        ("choose_by=test/accuracy", "choose one of val/loss, val/accuracy, "),
        ("metrics=[macro_f2]", "did you mean macro_f1?"),
        ("metrics=[top5,top5]", "top5 stands there twice"),
    ],
)
def test_a_mistake_is_one_line(given, told) -> None:
    with pytest.raises(UserError) as caught:
        compose(given)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_the_lowest_is_kept_where_it_is_the_best_and_nothing_that_is_not_finite() -> None:
    progress, judged = Progress(), []
    for step, loss in enumerate([math.nan, 1.0, 2.0, 0.5, math.nan], 1):
        progress.step = step
        judged.append(progress.judge({"loss": loss, "accuracy": step / 10}, "loss", is_lowest=True))
    assert judged == [False, True, False, True, False] and progress.best == {"loss": 0.5, "accuracy": 0.4}


def test_an_older_config_and_checkpoint_mean_what_they_meant() -> None:
    values = upgraded({"label_smoothing": 0.2, "sweep": {"name": "s", "objective": "val/loss"}})
    assert values == {"loss": {"_target_": "resnet.losses.CrossEntropy", "smoothing": 0.2}, "sweep": {"name": "s"}}
    assert Progress.of({"step": 3, "best_step": 2, "best_accuracy": 0.5, "best_loss": 1.0}).best == {"accuracy": 0.5, "loss": 1.0}
