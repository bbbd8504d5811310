"""Probes see what they say they see, and change nothing."""

import json

import pytest
import torch
from PIL import Image
from test_resume import assert_same, timeless
from test_run import records, rows, summary
from test_training import parts

from resnet.record.directory import RunDirectory
from resnet.training.callbacks import Callbacks, Context

ALL = ("grad_norm", "activation_stats", "update_ratio")


def probes(built, tmp_path, warn=print):
    callbacks = Callbacks(built.callbacks, warn)
    seen = {"learner": built.learner, "data": built.data, "plan": built.plan, "directory": RunDirectory(tmp_path), "title": ""}
    callbacks.start(lambda name: Context(**seen, name=name))
    return callbacks


def watched(callbacks, built, step, batch=None):
    callbacks.before_step(step)
    built.learner.step(*(batch or next(built.train.epoch())))
    return callbacks.after_step(step)


@pytest.mark.numeric
def test_values_are_those_of_the_definitions(tmp_path) -> None:
    built = parts(
        f"callbacks=[{','.join(ALL)}]",
        "optimizer=sgd",
        "optimizer.momentum=0",
        "optimizer.nesterov=false",
        "optimizer.weight_decay=0",
        "scheduler=constant",
    )
    callbacks = probes(built, tmp_path)
    batch = next(built.train.epoch())
    model = built.learner.bare_model
    layer, block = model.stages[0][0].residual[0], model.stages[0][0]
    outputs = []
    handle = block.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    before = layer.weight.detach().clone()
    seen = watched(callbacks, built, 1, batch)
    handle.remove()
    change = layer.weight.detach() - before
    assert set(seen) == set(callbacks.columns(()))
    assert seen["grad_norm/stages.0.0.residual.0"] == pytest.approx(float(change.norm()) / 0.2, rel=1e-4)
    assert seen["update_ratio/stages.0.0.residual.0"] == pytest.approx(float(change.norm() / before.norm()), rel=1e-4)
    assert seen["activation_mean/stages.0.0"] == pytest.approx(float(outputs[0].mean()), rel=1e-4)
    assert seen["activation_var/stages.0.0"] == pytest.approx(float(outputs[0].var(correction=0)), rel=1e-4)


@pytest.mark.numeric
def test_norms_of_gradients_whose_squares_are_zero_in_float32(tmp_path) -> None:
    deep = ("model.layers=[7,7,7]", "model.width=4", "model.shortcut=none", "model.activation=sigmoid", "model.norm=none")
    built = parts(*deep, "callbacks=grad_norm")
    seen = watched(probes(built, tmp_path), built, 1)
    assert 0 < seen["grad_norm/stem.0"] < 1e-23


def test_between_the_watched_steps_nothing_is_attached(tmp_path) -> None:
    built = parts(f"callbacks=[{','.join(ALL)}]", *(f"callbacks.{name}.every=10" for name in ALL))
    callbacks, stem = probes(built, tmp_path), built.learner.bare_model.stem
    for step, is_watched in ((1, True), (7, False), (10, True)):
        callbacks.before_step(step)
        assert bool(stem._forward_hooks) == is_watched
        built.learner.step(*next(built.train.epoch()))
        assert bool(callbacks.after_step(step)) == is_watched
    assert not stem._forward_hooks and not built.learner.bare_optimizer._optimizer_step_pre_hooks


@pytest.mark.slow
def test_they_are_recorded_drawn_and_change_nothing(train, tmp_path) -> None:
    common = ("data=digits", "epochs=3", "model.layers=[1,1]", "model.dropout=0.2")
    train(*common, "name=plain")
    train(*common, "name=probed", f"callbacks=[{','.join(ALL)}]", *(f"callbacks.{name}.every=7" for name in ALL))
    plain, probed = (tmp_path / "outputs" / name for name in ("plain", "probed"))
    watched = [int(row["step"]) for row in rows(probed) if row["grad_norm/stem.0"]]
    assert watched == [1, 7, 14, 21, 28]
    assert summary(plain)["test"] == summary(probed)["test"] and summary(plain)["config_hash"] == summary(probed)["config_hash"]
    weights = [torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (plain, probed)]
    assert_same(*({**timeless(content), "rows": None} for content in weights))
    both = [row for row in rows(probed) if row["train/loss"]]
    assert [row["train/loss"] for row in both] == [row["train/loss"] for row in rows(plain)]
    with Image.open(probed / "probes.png") as picture:
        assert picture.size[1] > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 100
    assert not (plain / "probes.png").exists()


@pytest.mark.slow
def test_a_profile_says_where_the_time_goes_and_changes_nothing(train, tmp_path) -> None:
    common = ("data=digits", "epochs=3", "model.layers=[1,1]")
    train(*common, "name=plain")
    assert train(*common, "name=profiled", "callbacks=profile").stderr == ""
    plain, profiled = (tmp_path / "outputs" / name for name in ("plain", "profiled"))
    assert summary(plain)["test"] == summary(profiled)["test"] and summary(plain)["config_hash"] == summary(profiled)["config_hash"]
    assert "aten::convolution_backward" in (profiled / "profile.txt").read_text()
    steps = [event for event in json.loads((profiled / "profile.json").read_text())["traceEvents"] if "ProfilerStep" in event["name"]]
    assert len(steps) == 12
    with Image.open(profiled / "profile.png") as picture:
        assert picture.size[0] == 1200 and len(picture.convert("RGB").getcolors(1 << 24)) > 50
    train(*common, "name=short", "callbacks=profile", "max_steps=4")
    assert not (tmp_path / "outputs" / "short" / "profile.png").exists()


@pytest.mark.slow
def test_they_reach_wandb(train, tmp_path) -> None:
    train(
        "data=digits", "epochs=1", "model.layers=[1]", "name=a", "callbacks=grad_norm", "callbacks.grad_norm.every=5", "wandb.mode=offline"
    )
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    told = [item["history"]["item"] for item in records(file) if item["type"] == "history"]
    seen = {int(item["step"]): float(item["grad_norm/stem.0"]) for item in told if "grad_norm/stem.0" in item}
    kept = {int(row["step"]): float(row["grad_norm/stem.0"]) for row in rows(tmp_path / "outputs" / "a") if row["grad_norm/stem.0"]}
    assert seen == kept and list(kept) == [1, 5, 10]
    assert list(file.parent.rglob("files/media/images/probes*.png"))
