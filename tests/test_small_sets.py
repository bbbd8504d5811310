"""What a small or uneven set needs: class weights, metrics that count classes alike, classes that are never predicted, early stopping."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import ROOT, call, compose

import resnet
from resnet.analysis.answering import Answering
from resnet.analysis.saved import load_data, open_run
from resnet.build_data import build_data
from resnet.data import Batch, Loader, Split

UNEVEN = ("data=arrays", "data.path=uneven.npz", "model.layers=[1,1]", "wandb=disabled", "metrics=[balanced_accuracy,macro_f1]")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Where uneven.npz holds real digits with 100 images of each class, but four of 7, 8 and 9."""

    data = build_data(compose("data=digits"))
    labels = data.train.labels
    kept = torch.cat([(labels == label).nonzero().flatten()[: 100 if label < 7 else 4] for label in range(10)])
    folder = tmp_path_factory.mktemp("uneven")
    arrays = {"x_train": data.train.images[kept, 0], "y_train": labels[kept], "x_test": data.test.images[:, 0], "y_test": data.test.labels}
    np.savez(folder / "uneven.npz", **{name: array.numpy() for name, array in arrays.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        resnet.train([*UNEVEN, "epochs=4", "data.val_size=80", "choose_by=val/balanced_accuracy", "name=short"])
        for name, given in (("plain", "seed=0"), ("balanced", "loss.class_weights=balanced"), ("drawn", "data.balance=true")):
            resnet.train([*UNEVEN, given, "epochs=12", f"name={name}"])
    return folder


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_balanced_class_weights_serve_the_small_classes(uneven) -> None:
    plain, *others = (summary(uneven / "outputs" / name)["test"]["balanced_accuracy"] for name in ("plain", "balanced", "drawn"))
    assert min(others) > plain + 0.05


def test_a_balanced_order_draws_each_class_equally_often_and_can_be_reached_again() -> None:
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    images = torch.arange(1000).remainder(256).to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    settings = {"mean": [0.0], "std": [1 / 255], "num_classes": 3, "shuffle": True, "seed": 3}

    def batches(start: int = 0, **more: int) -> list[Batch]:
        return list(Loader(Split(images, labels), 100, balance=True, **settings, **more).epoch(1, start))

    drawn = batches()
    counts = torch.bincount(torch.cat([batch.targets for batch in drawn]))
    assert len(drawn) == 10 and (counts - 1000 / 3).abs().max() < 60  # four standard deviations
    assert torch.equal(batches(start=4)[0].images, drawn[4].images)
    assert torch.equal(batches(rank=1, world_size=2)[2].images, drawn[2].images[1::2])


def test_balanced_accuracy_chooses_the_checkpoint(uneven) -> None:
    told, rows = summary(uneven / "outputs" / "short"), (uneven / "outputs" / "short" / "metrics.csv").read_text().splitlines()
    scores = [float(row["val/balanced_accuracy"]) for row in csv.DictReader(rows) if row["val/balanced_accuracy"]]
    assert len(scores) == 4 and told["best"]["val/balanced_accuracy"] == max(scores) and "val/macro_f1" in told["best"]


def test_a_class_that_is_never_predicted_is_named(uneven) -> None:
    short = uneven / "outputs" / "short"
    (answers, labels), missed = evaluated(short), summary(short)["never_predicted"]
    assert missed == [{"class": str(label), "images": int((labels == label).sum())} for label in range(10) if label not in answers]
    line = "never predicted: " + ", ".join(f"{one['class']} ({one['images']} images)" for one in missed)
    assert missed and f"warning: {line}" in (short / "train.log").read_text() and line in (short / "report.html").read_text()
    assert f"warning: {line}" in call(uneven, "-m", "resnet", "evaluate", "outputs/short").stdout


def evaluated(path):
    run = open_run(path)
    test = load_data(run).test
    return Answering(run).logits(test).argmax(1).tolist(), test.labels


def test_early_stopping_says_where_it_ended(tmp_path) -> None:
    common = ("data=digits", "data.val_size=100", "model.layers=[1]", "limit_batches=2", "wandb=disabled", "lr=1e-30", "model.norm=none")
    call(tmp_path, ROOT / "train.py", *common, "epochs=50", "early_stop=2", "name=early")
    assert summary(tmp_path / "outputs" / "early")["ended_early"] == {"step": 6, "of": 100, "evaluations": 2}
    log = (tmp_path / "outputs" / "early" / "train.log").read_text()
    assert "ended early: at step 6 of 100: 2 evaluations without a better held-out accuracy (early_stop)" in log
