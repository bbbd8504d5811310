"""Mistakes in code of one's own: each is one line with its key, before anything is written, whatever the code raises."""

import sys

import pytest
import torch

import resnet
from resnet.analysis.saved import open_run
from resnet.config import UserError
from resnet.config.signature import read_signature
from resnet.sweeps.grid import read_sweep
from resnet.sweeps.preflight import preflight

LAB = """
from __future__ import annotations
import random
from typing import TYPE_CHECKING, Annotated, Literal
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from resnet.data import Source, Split
from resnet.models.blocks import Block
from resnet.training.callbacks import Callback
if TYPE_CHECKING:
    from nowhere import Thing


def fails(*arguments, **settings):
    raise KeyError("gain")


def asserts(*arguments, **settings):
    assert not arguments and False, "not today"


class NoChannels(nn.Module):
    def __init__(self, in_channels, width, stride, layers, drop_probability):
        super().__init__()


class Net(nn.Module):
    kind = ""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: Annotated[int, {"at_least": 1}] = 1,
        act: Literal["relu", "gelu"] = "relu",
        like: Thing | None = None,
    ) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))

    def forward(self, images):
        return self.inner(images)


class Tuples(Net):
    def forward(self, images):
        return (self.inner(images), None) if self.training else self.inner(images)


class Detached(Net):
    def forward(self, images):
        return self.inner(images).detach()


class Lazy(Net):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.inner = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


class Lists(Net):
    def sections(self):
        return [self.inner]


class OnlyTraining(nn.Module):
    def forward(self, scores, targets):
        return F.cross_entropy(scores, targets) if self.training else 1.0


class Shy:
    direction, unit = "maximize", ""

    def __call__(self, scores, labels):
        raise KeyError("x")


class Half:
    def mix(self, images, targets, num_classes, generator):
        return images


class Keeps(Callback):
    def state(self):
        return {"best": np.float64(3)}


class Leaves(Callback):
    def start(self, context):
        (context.folder / "x").write_text("a")
        raise KeyError("late")


def tabled(shift: int = 3) -> Source:
    raise AssertionError


def loss(scores, targets, images, factor: float = 1.0):
    assert images.ndim == 4
    return factor * F.cross_entropy(scores, targets)


def right(scores, labels, times: int = 1):
    return times * float((scores.argmax(1) == labels).double().mean())


right.direction, right.unit = "maximize", "%"


def inverted(images, generator):
    return 255 - images


class Starred(Block):
    def __init__(self, *arguments, scale: Annotated[float, {"above": 0}] = 1.0):
        super().__init__(*arguments)


class Chance(Block):
    def forward(self, x):
        return super().forward(x) * (0.5 + random.random() + np.random.rand()) if self.training else super().forward(x)
"""
SMALL = ["data=digits", "max_steps=2", "wandb=disabled", "name=a"]
FAULTS = [
    ("model.block=faulty.fails", r"^model.block=faulty.fails: KeyError: 'gain', faulty.py, line \d+$"),
    ("model.stem=faulty.asserts", r"^model.stem=faulty.asserts: AssertionError: not today, faulty.py, line \d+$"),
    ("model.norm=faulty.fails", r"^model.norm=faulty.fails: KeyError"),
    ("model.block=faulty.NoChannels", "model.block=faulty.NoChannels: a NoChannels needs an attribute out_channels"),
    ("model.block={_target_:faulty.Starred,scale:0}", r"^model.block.scale=0.0: out of range; it must be above 0$"),
    ("model.block={_target_:faulty.Starred,scal:2}", r"^model.block.scal: unknown key \(did you mean scale\?\)"),
    ("model.activation=faulty.tabled", "model.activation=faulty.tabled: AssertionError"),
    ("model._target_=faulty.fails", r"^model: faulty.fails fails \(KeyError: 'gain', faulty.py"),
    ("model._target_=faulty.Nett", r"has no Nett \(did you mean Net\?\)"),
    ("model._target_=faulty.Net model.depth=0", "^model.depth=0: out of range; it must be at least 1$"),
    ("model._target_=faulty.Net model.act=geluu", r"^model.act=geluu: no such choice \(did you mean gelu\?\)"),
    ("model._target_=faulty.Tuples", "give a tuple in training; one score for each class is needed"),
    ("model._target_=faulty.Detached", "its scores in training have no gradient"),
    ("model._target_=faulty.Lazy", "it has lazy layers, whose sizes are not known"),
    ("loss._target_=faulty.asserts", "loss: faulty.asserts fails|it gives a NoneType|AssertionError: not today"),
    ("loss._target_=faulty.OnlyTraining", "loss._target_=faulty.OnlyTraining: AttributeError"),
    ("metrics=[faulty.Shy]", r"metrics: shy: it fails on scores \(N, 10\) and labels \(N,\): KeyError: 'x', faulty.py"),
    ("metrics=[faulty.fails]", "metrics.fails: faulty.fails fails"),
    ("augment=[faulty.fails]", "augment.0: faulty.fails fails"),
    ("augment=[faulty.Half]", "augment: it fails on uint8 images"),
    ("+callbacks.mine._target_=faulty.fails", "callbacks.mine: faulty.fails fails"),
    ("+callbacks.mine._target_=faulty.Keeps", "callbacks.mine: Keeps.state: TypeError: best is a numpy.float64; only tensors, numbers"),
    ("+callbacks.mine._target_=faulty.Leaves", "callbacks.mine: Leaves.start: KeyError: 'late'"),
    ("optimizer._target_=faulty.fails", "optimizer: faulty.fails fails"),
    ("optimizer._target_=builtins.list ~optimizer.momentum ~optimizer.nesterov ~optimizer.fused ~optimizer.weight_decay", "optimizer"),
    ("scheduler._target_=faulty.fails", "scheduler: faulty.fails fails"),
    ("data._target_=faulty.fails", "data: faulty.fails fails"),
    ("data._target_=faulty.tabled", "data._target_=faulty.tabled: shift: keys that all data sets share"),
]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    read_signature.cache_clear()  # of another test's module of that name
    yield tmp_path
    sys.modules.pop("faulty", None)
    read_signature.cache_clear()


@pytest.mark.parametrize(("given", "told"), FAULTS)
def test_a_fault_in_ones_own_code_is_one_line_before_anything_is_written(lab, given, told) -> None:
    data = [] if given.startswith("data.") else ["data=digits"]
    with pytest.raises(UserError, match=told) as error:
        resnet.train([*data, *SMALL[1:], *given.split()])
    assert "\n" not in str(error.value) and not (lab / "outputs" / "a").exists()


def test_in_a_sweep_it_is_told_with_its_job(lab) -> None:
    with pytest.raises(UserError, match=r"job 0 \(.*model._target_=faulty.fails.*\): model: faulty.fails fails"):
        preflight(read_sweep(["-m", "data=digits", "model._target_=faulty.fails,faulty.Net", "sweep.name=s"]))


def test_functions_stand_where_a_loss_a_metric_or_an_operation_is_called(lab) -> None:
    given = ["metrics=[{_target_: faulty.right, times: 2}]", "augment=[faulty.inverted]", "loss._target_=faulty.loss", "loss.factor=2"]
    trained = resnet.train([*SMALL, "model.layers=[1]", "data.val_size=100", *given])
    best = trained.summary["test"]
    assert best["right"] == pytest.approx(2 * best["accuracy"])
    plain = resnet.train([*SMALL[:-1], "name=b", "model.layers=[1]", "loss._target_=torch.nn.functional.cross_entropy"])
    assert plain.summary["status"] == "finished"
    with pytest.raises(UserError, match=r"loss.factr: unknown key \(did you mean factor\?\)"):
        resnet.train([*SMALL[:-1], "name=c", "loss._target_=faulty.loss", "loss.factr=2"])


def test_settings_behind_a_star_and_all_options_of_a_group(lab) -> None:
    trained = resnet.train([*SMALL, "model.layers=[1]", "model.block={_target_: faulty.Starred, scale: 2}"])
    assert trained.summary["status"] == "finished"
    jobs = [text for job in read_sweep(["-m", "model=glob(*)", "loss=glob(*)", "sweep.name=s"]).overrides for text in job]
    assert "model=resnet20" in jobs and not any("custom" in text for text in jobs)


def test_pythons_and_numpys_random_numbers_go_on_exactly(lab) -> None:
    recipe = ["data=digits", "wandb=disabled", "model.layers=[1]", "model.block=faulty.Chance", "scheduler=constant", "limit_batches=3"]
    whole = resnet.train([*recipe, "epochs=4", "name=whole"])
    resnet.train([*recipe, "epochs=2", "name=parts"])
    parts = resnet.train([*recipe, "epochs=4", "name=parts"])
    one, other = (torch.load(run.directory / "checkpoints" / "last.pt", weights_only=True)["model"] for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_teacher_that_is_not_finished_is_refused(lab) -> None:
    resnet.train([*SMALL, "model.layers=[1]"])
    summary = lab / "outputs" / "a" / "summary.json"
    summary.write_text(summary.read_text().replace('"finished"', '"failed"'))
    with pytest.raises(UserError, match=r"loss.teacher=outputs/a: that run is failed; a finished run is needed"):
        resnet.train([*SMALL[:-1], "name=b", "loss=distillation", "loss.teacher=outputs/a"])
    assert open_run(lab / "outputs" / "a").summary["status"] == "failed"
