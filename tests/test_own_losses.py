"""Losses and metrics of one's own, from a file outside the package."""

import json
import sys

import pytest
import torch

import resnet
from resnet.analysis.comparison import compare_all
from resnet.analysis.evaluate import evaluate
from resnet.analysis.runs import look_for_runs
from resnet.analysis.saved import open_run

OWN = """
import torch
import torch.nn.functional as F
from torch import nn


class Powered(nn.Module):
    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, scores, targets, images):
        losses = F.cross_entropy(scores, targets, reduction="none")
        assert images.ndim == 4
        return (1 - (-losses).exp()) ** self.gamma * losses


class OwnF1:
    direction, unit = "maximize", "%"

    def __call__(self, scores, labels):
        from sklearn.metrics import f1_score

        return f1_score(labels, scores.argmax(1), average="macro")


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, scores, targets):
        return self.scale * F.cross_entropy(scores, targets)
"""
SHORT = ["data=digits", "model.layers=[1]", "epochs=2", "data.val_size=100", "limit_batches=3", "wandb=disabled"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    sys.modules.pop("own_losses", None)


def weights(run) -> dict[str, torch.Tensor]:
    return torch.load(f"{run}/checkpoints/last.pt", weights_only=True)["model"]


def test_an_own_loss_is_the_built_in_one_of_the_same_formula(folder) -> None:
    resnet.train(["name=own", "loss._target_=own_losses.Powered", "loss.gamma=1.5", *SHORT])
    resnet.train(["name=ours", "loss=focal", "loss.gamma=1.5", *SHORT])
    own, ours = (json.loads((folder / "outputs" / name / "summary.json").read_text()) for name in ("own", "ours"))
    assert own["test"]["loss"] == pytest.approx(ours["test"]["loss"], rel=1e-3)
    assert evaluate(open_run(folder / "outputs" / "own"), "test")["loss"]["value"] == pytest.approx(own["test"]["loss"])


def test_an_own_metric_chooses_is_told_and_compared(folder) -> None:
    names = "metrics=[own_losses.OwnF1,macro_f1]"
    resnet.train(["name=run", names, "choose_by=val/own_f1", *SHORT])
    summary = json.loads((folder / "outputs" / "run" / "summary.json").read_text())
    assert summary["metrics"]["own_f1"] == {"direction": "maximize", "unit": "%"}
    rows = (folder / "outputs" / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/own_f1")
    assert max(float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]) == summary["best"]["val/own_f1"]
    for part, key in (("best", "val/"), ("test", "")):
        assert summary[part][f"{key}own_f1"] == pytest.approx(summary[part][f"{key}macro_f1"])
    report = evaluate(open_run(folder / "outputs" / "run"), "test")
    assert report["metrics"]["own_f1"]["value"] == pytest.approx(summary["test"]["own_f1"])
    comparison = compare_all([], look_for_runs([folder / "outputs"]).runs)
    assert comparison.metric == "val/own_f1" and comparison.best.mean == summary["best"]["val/own_f1"]
    page = (folder / "outputs" / "run" / "report.html").read_text()
    assert "held-out own_f1 (%)" in page or "val/own_f1" in page


def test_the_lowest_held_out_loss_is_kept(folder) -> None:
    resnet.train(["name=run", "choose_by=val/loss", *SHORT, "lr=1", "epochs=4"])
    summary = json.loads((folder / "outputs" / "run" / "summary.json").read_text())
    rows = (folder / "outputs" / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/loss")
    assert summary["best"]["val/loss"] == min(float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column])


def test_a_student_that_is_its_teacher_has_no_loss(folder) -> None:
    resnet.train(["name=teacher", *SHORT])
    chosen = ["loss=distillation", "loss.teacher=outputs/teacher", "loss.weight=1"]
    resnet.train(["name=same", *chosen, "model.weights=outputs/teacher", *SHORT, "epochs=0"])
    summary = json.loads((folder / "outputs" / "same" / "summary.json").read_text())
    assert summary["test"]["loss"] == 0 and len(summary["teacher"]) == 64
    resnet.train(["name=student", *chosen, *SHORT])
    assert json.loads((folder / "outputs" / "student" / "summary.json").read_text())["test"]["loss"] > 0


@pytest.mark.full
def test_distillation_and_an_own_choice_resume_bit_for_bit(folder, train) -> None:
    train("name=teacher", *SHORT)
    chosen = ["loss=distillation", "loss.teacher=outputs/teacher", "metrics=[own_losses.OwnF1]", "choose_by=val/own_f1", *SHORT]
    chosen += ["scheduler=constant"]
    train("name=whole", *chosen)
    train("name=parts", *chosen, "epochs=1")
    train("name=parts", *chosen)
    assert all(torch.equal(value, weights("outputs/parts")[name]) for name, value in weights("outputs/whole").items())


@pytest.mark.full
def test_losses_in_one_sweep_ranked_by_a_metric(folder, train) -> None:
    output = train("-m", "loss=focal,cross_entropy", "choose_by=val/macro_f1", *SHORT).stdout
    assert "held-out macro_f1" in output and "2 of 2 jobs finished" in output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["loss._target_=own_losses.Powered", "loss.gama=1"], "unknown key (did you mean gamma?)"),
        (["loss._target_=own_losses.Learnt"], "parameters of its own"),
        (["loss=distillation", "loss.teacher=nowhere"], "loss.teacher: nowhere: no run directory"),
        (["loss=distillation"], "loss.teacher"),
        (["label_smoothing=0.1"], "loss.smoothing"),
        (["sweep.objective=val/loss"], "choose_by"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(folder, train, given, told) -> None:
    done = train(*given, *SHORT, status=2)
    assert told in done.stderr and "Traceback" not in done.stderr and not (folder / "outputs").exists()
