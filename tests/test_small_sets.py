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
from resnet.build import build_data

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
        for name, weights in (("plain", "null"), ("balanced", "balanced")):
            resnet.train([*UNEVEN, f"loss.class_weights={weights}", "epochs=12", f"name={name}"])
    return folder


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_balanced_class_weights_serve_the_small_classes(uneven) -> None:
    plain, balanced = (summary(uneven / "outputs" / name) for name in ("plain", "balanced"))
    assert balanced["test"]["balanced_accuracy"] > plain["test"]["balanced_accuracy"] + 0.05


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
