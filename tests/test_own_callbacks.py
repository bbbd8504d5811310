"""A callback of one's own, from a file outside the package: it saves features, has a column and a state, and survives a kill."""

import csv
import json
import signal

import pytest
import torch
from conftest import ROOT, call, compose, saved_config
from test_resume import assert_same, timeless

from resnet.config import config_hash, load_config

OWN = """
import os
import signal
import torch
from resnet.training.callbacks import Callback


class SaveFeatures(Callback):
    columns = ["features/norm", "features/steps"]

    def __init__(self, layer: str, kill_at: int | None = None) -> None:
        self.layer, self.kill_at, self.steps = layer, kill_at, 0

    def start(self, context):
        self.context = context

    def after_step(self, step):
        self.steps += 1
        if step == self.kill_at and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    @torch.no_grad()
    def evaluation(self, step, metrics):
        assert "val/accuracy" in metrics
        model, found = self.context.learner.weights.eval(), []
        hook = model.get_submodule(self.layer).register_forward_hook(lambda module, inputs, output: found.append(output))
        model(self.context.data.test.images[:4].float())
        hook.remove()
        if self.context.is_first:
            torch.save(found[0], self.context.folder / f"{step}.pt")
        return {"features/norm": found[0].norm(), "features/steps": self.steps}

    def state(self):
        return {"steps": self.steps}

    def load_state(self, state):
        self.steps = state["steps"]


class Broken(Callback):
    def __init__(self, place: str) -> None:
        self.place = place

    def start(self, context):
        self.fail("start")

    def before_step(self, step):
        self.fail("before_step")

    def evaluation(self, step, metrics):
        return {"unheard": 1.0} if self.place == "evaluation" else None

    def end(self, is_finished):
        self.fail("end")

    def fail(self, place):
        if place == self.place:
            raise KeyError("of the user")


class Clash(Callback):
    columns = ["val/loss"]


class NoCallback:
    pass
"""
COMMON = ("data=digits", "data.val_size=200", "model.layers=[1]", "model.width=4", "batch_size=256", "epochs=2", "log_every=3")
SAVES = ("+callbacks.features._target_=lab.SaveFeatures", "+callbacks.features.layer=stages.0")


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "lab.py").write_text(OWN)
    return tmp_path


def rows(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_saves_features_and_goes_on_bit_for_bit_after_a_kill(lab) -> None:
    train = ROOT / "train.py"
    saves = (*SAVES, "checkpoint.every_steps=2")
    call(lab, train, *COMMON, *saves, "name=killed", "+callbacks.features.kill_at=7", status=-signal.SIGKILL)
    goes_on = call(lab, train, *COMMON, *saves, "name=killed", "+callbacks.features.kill_at=7")
    assert "continued" in goes_on.stdout + goes_on.stderr
    call(lab, train, *COMMON, *saves, "name=whole", "+callbacks.features.kill_at=7")  # the file `killed` is there: not again
    killed, whole = (lab / "outputs" / name for name in ("killed", "whole"))
    contents = [torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (killed, whole)]
    assert_same(*({**timeless(content), "rows": None} for content in contents))
    steps = [row["features/steps"] for row in rows(whole) if row["features/steps"]]
    assert [float(value) for value in steps] == [float(row["step"]) for row in rows(whole) if row["features/steps"]]
    assert steps == [row["features/steps"] for row in rows(killed) if row["features/steps"]] and len(steps) == 2
    for run in (killed, whole):
        (first, last) = sorted((run / "callbacks" / "features").glob("*.pt"), key=lambda file: int(file.stem))
        assert torch.load(last, weights_only=True).shape[0] == 4 and first.stem == str(int(last.stem) // 2)
    evaluated = call(lab, "-m", "resnet", "evaluate", whole, "--allow", "lab", "--json")
    assert json.loads(evaluated.stdout)["accuracy"]["value"] == json.loads((whole / "summary.json").read_text())["test"]["accuracy"]


@pytest.mark.parametrize(
    ("place", "told"), [("start", "KeyError: 'of the user' (lab.py, line"), ("before_step", "KeyError: 'of the user'")]
)
def test_one_that_raises_fails_the_run_with_a_line_that_names_it(lab, place, told) -> None:
    broken = ("+callbacks.mine._target_=lab.Broken", f"+callbacks.mine.place={place}")
    done = call(lab, ROOT / "train.py", *COMMON, *broken, "name=a", status=2 if place == "start" else 1)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and f"callbacks.mine: Broken.{place}: {told}" in lines[0]
    assert (lab / "outputs" / "a").exists() == (place != "start")  # before anything is written
    if place != "start":
        assert "in fail" in (lab / "outputs" / "a" / "train.log").read_text()


@pytest.mark.full
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("lab.Broken", "+callbacks.mine.place=end"), "Broken.end: KeyError"),
        (("lab.Broken", "+callbacks.mine.place=evaluation"), "the value unheard is not among its columns"),
        (("lab.Broken",), "callbacks.mine.place: no value"),
        (("lab.Clash",), "callbacks.mine: the column val/loss is taken"),
        (("lab.NoCallback",), "a resnet.training.callbacks.Callback is needed"),
        (("lab.Nowhere",), "callbacks.mine._target_=lab.Nowhere: cannot be imported"),
    ],
)
def test_mistakes_are_one_line(lab, settings, told) -> None:
    target, *others = settings
    done = call(
        lab,
        ROOT / "train.py",
        *COMMON,
        f"+callbacks.mine._target_={target}",
        *others,
        "max_steps=2",
        status=1 if "Broken." in told or "unheard" in told else 2,
    )
    assert len(done.stderr.splitlines()) == 1 and told in done.stderr


@pytest.mark.slow
def test_it_counts_in_the_config_hash_and_an_option_file_of_ones_own_brings_it(lab) -> None:
    options = lab / "conf" / "callbacks"
    options.mkdir(parents=True)
    (options / "features.yaml").write_text("features:\n  _target_: lab.SaveFeatures\n  layer: stages.0\n")
    sweep = ("-m", f"--config-dir={lab / 'conf'}", "callbacks=[features,grad_norm]", "seed=0,1", "sweep.name=s", "max_steps=2")
    call(lab, ROOT / "train.py", *COMMON, *sweep)
    runs = [file.parent for file in (lab / "multirun" / "s").glob("*/summary.json")]
    assert len(runs) == 2 and all(row["features/norm"] for run in runs for row in rows(run)[-1:])
    call(lab, ROOT / "train.py", *COMMON, "max_steps=2", "name=without")
    call(lab, ROOT / "train.py", *COMMON, "max_steps=2", "name=watched", "callbacks=grad_norm")
    digests = [
        json.loads((run / "summary.json").read_text())["config_hash"] for run in (*runs, lab / "outputs/without", lab / "outputs/watched")
    ]
    assert len(set(digests)) == 3 and digests[2] == digests[3]


def test_a_config_of_before_means_the_same_callbacks() -> None:
    kept = saved_config(probes=["grad_norm"], probe_every=20, profile=True)
    del kept["callbacks"]
    config = load_config(kept)
    chosen = compose("data=digits", "callbacks=[grad_norm,profile]", "callbacks.grad_norm.every=20")
    assert config.callbacks == chosen.callbacks and config_hash(config) == config_hash(compose("data=digits"))
