"""Cross-validation: data.folds, and how its runs are compared."""

import json

import numpy as np
import pytest
from conftest import call, compose
from test_folder import pictures

from resnet.analysis.comparison import compare_runs
from resnet.analysis.intervals import t_interval, welch_interval
from resnet.build_data import build_data
from resnet.config import UserError


def folds_of(*overrides: str, folds: int = 5):
    return [build_data(compose(*overrides, f"data.folds={folds}", f"data.fold={fold}")) for fold in range(folds)]


def test_folds_divide_each_class_and_touch_no_test_set_of_the_data() -> None:
    found = folds_of("data=digits", "data.val_size=0.1", folds=4)
    whole = found[0].whole
    tests = [{image.numpy().tobytes() for image in data.test.images} for data in found]
    assert sum(map(len, tests)) == len(set().union(*tests)) == len(whole) and len({data.digests["whole"] for data in found}) == 1
    for data in found:
        assert all(abs(int((data.test.labels == label).sum()) - int((whole.labels == label).sum()) / 4) < 1 for label in range(10))
        assert len(data.train) + len(data.val) + len(data.test) == len(whole)
        assert any("the data's own test set is not touched" in note for note in data.notes)


def test_folds_of_files_and_of_groups(tmp_path) -> None:
    pictures(tmp_path / "mine", cat=30, dog=10)
    tests = [set(data.test.origins.names) for data in folds_of("data=folder", f"data.path={tmp_path / 'mine'}", "data.val_size=0")]
    assert [len(names) for names in tests] == [8] * 5 and len(set().union(*tests)) == 40
    assert all(sum("dog" in name for name in names) == 2 for names in tests)
    rows = [f"mine/{name}/{index}.png,{name},{name}{index // 2}" for name, number in (("cat", 30), ("dog", 10)) for index in range(number)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,group", *rows]))
    patients = [set(data.test.origins.groups) for data in folds_of("data=folder", f"data.path={tmp_path / 'all.csv'}", "data.val_size=0")]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 20


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.folds=5 data.fold=5", "data.fold=5: of data.folds=5 folds the last one is 4"),
        ("data.folds=1", "data.folds=1: out of range"),
        ("data=digits data.folds=5000", "data.folds=5000: only 1438 training images"),
    ],
)
def test_a_mistake_is_one_line(given, told) -> None:
    with pytest.raises(UserError, match=told):
        build_data(compose(*given.split()))


def test_folds_are_one_group_with_the_corrected_interval(tmp_path, train) -> None:
    common = "data=digits", "data.folds=3", "data.val_size=0.1", "epochs=1", "model.layers=[1]", "model.width=4", "wandb=disabled"
    train("-m", *common, "data.fold=range(3)", "lr=0.1,0.2", "sweep.name=cv")
    found = compare_runs([tmp_path / "multirun" / "cv"], "test/accuracy", on_test=True)
    assert [len(group.values) for group in found.groups] == [3, 3] and set(found.groups[0].values) == {
        f"0 fold={fold}" for fold in range(3)
    }
    values = np.array(list(found.groups[0].values.values()))
    low, high = found.groups[0].interval
    # Nadeau and Bengio 2003: the variance of the mean is (1/J + test images / training images) times the variance of the values.
    assert (high - low) / 2 == pytest.approx(4.302653 * values.std(ddof=1) * np.sqrt(1 / 3 + 1 / 2), rel=1e-5)
    text = call(tmp_path, "-m", "resnet", "compare", "multirun/cv", "--metric", "test/accuracy", "--on-test").stdout
    assert "cross-validation" in text
    summary = json.loads(next((tmp_path / "multirun" / "cv").glob("*/summary.json")).read_text())
    assert "whole" in summary["data"]["digests"]


def test_the_corrected_intervals_cover_what_they_promise() -> None:
    """Scores of folds are correlated by the share of test images, here 1/5, as Nadeau and Bengio assume."""
    rng, folds, trials = np.random.default_rng(0), 5, 4000
    correlation, overlap = 1 / folds, 1 / (folds - 1)

    def scores() -> np.ndarray:
        return np.sqrt(correlation) * rng.normal(size=(trials, 1)) + np.sqrt(1 - correlation) * rng.normal(size=(trials, folds))

    def covers(interval: tuple[float, float]) -> bool:
        return interval[0] <= 0 <= interval[1]

    one, other = scores(), scores()
    assert np.mean([covers(t_interval(row, overlap=overlap)) for row in one]) == pytest.approx(0.95, abs=0.012)
    assert np.mean([covers(t_interval(row)) for row in one]) < 0.88
    assert np.mean([covers(welch_interval(*pair, 0.95, overlap)) for pair in zip(one, other, strict=True)]) > 0.93
