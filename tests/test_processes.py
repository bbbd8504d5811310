"""One model on several processes: the same curve, one record, one end."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import ROOT, call
from rounding import assert_same_weights, near_ties, scores_of, tolerance
from test_resume import assert_same_run, finish, start, timeless, wait_for
from test_run import rows, summary

from resnet.analysis.saved import load_model, open_run
from resnet.training.hang import Insistence
from resnet.training.processes import Watch

# 1,298 images in batches of 127: the last one, of 28, and the odd ones before it are dealt unevenly.
SMALL = ("data=digits", "model.layers=[1,1]", "log_every=4", "batch_size=127", "fabric.accelerator=cpu", "augment=crop_flip")
SMOOTH = (*SMALL, "model.norm=group", "model.activation=silu")  # without ReLU, which a rounding could turn on or off
TWO = ("fabric=ddp", "fabric.accelerator=cpu", "fabric.devices=2")


def torchrun(folder, *arguments, **environment):
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{folder}", **environment}
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def numbers(run):
    return [{key: float(value) for key, value in timeless(row).items() if value} for row in rows(run)]


def assert_same_curve(one, other) -> None:
    """But for rounding: of the answers of a record one may be so near a tie that it turns; two are not."""
    model, *_ = load_model(open_run(one))
    images, epoch = summary(one)["data"], 0.0
    for mine, theirs in zip(numbers(one), numbers(other), strict=True):
        counts = {"train/accuracy": round((mine["epoch"] - epoch) * images["train"]), "val/accuracy": images["val"]}
        epoch = mine["epoch"]
        for key, count in counts.items():
            assert abs(mine.pop(key, 0.0) - theirs.pop(key, 0.0)) * count < 1.5, f"{key} at step {mine['step']}"
        assert mine == pytest.approx(theirs, rel=tolerance(model, steps=int(mine["step"])))
    allowed = tolerance(model, steps=int(mine["step"]))
    assert_same_weights(*(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"] for run in (one, other)), allowed)
    assert_same_test(one, other, allowed)


def assert_same_test(one, other, allowed) -> None:
    told, again = (summary(run)["test"] for run in (one, other))
    scores, _ = scores_of(one)
    assert abs(told["accuracy"] - again["accuracy"]) * len(scores) < near_ties(scores, allowed) + 0.5
    assert again["loss"] == pytest.approx(told["loss"], rel=allowed)


ORDERED = """
class Ordered:
    direction, unit = "maximize", ""

    def __call__(self, scores, labels):  # of all images, each in its place, whatever process answered it
        assert len(scores) == len(labels)
        return float(sum(place * int(label) for place, label in enumerate(labels)))
"""


@pytest.mark.slow
@pytest.mark.numeric
def test_two_processes_give_one_process_s_curve(tmp_path) -> None:
    (tmp_path / "lab.py").write_text(ORDERED)
    arguments = (*SMOOTH, "batch_size=81", "epochs=2", "optimizer=adam", "ema=0.9")  # the last batch is of 2 images
    arguments += ("metrics=[lab.Ordered]",)
    call(tmp_path, ROOT / "train.py", *arguments, "name=one")
    finish(start(tmp_path, *arguments, "name=two", *TWO))
    output = finish(torchrun(tmp_path, *arguments))
    assert output.count("test accuracy:") == 1
    names = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert len(names) == 3  # the third one under its time stamp, made once
    one = tmp_path / "outputs" / "one"
    for name in names - {"one"}:
        other = tmp_path / "outputs" / name
        assert summary(other)["sessions"][0]["processes"] == 2
        assert_same_curve(one, other)
        assert summary(other)["test"]["ordered"] == summary(one)["test"]["ordered"] > 0
        assert summary(other)["config_hash"] == summary(one)["config_hash"]


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_no_thread_outlives_what_it_watches(alone) -> None:
    """It would hold the model: where it frees it while Python ends, PyTorch aborts the process."""
    before = threading.enumerate()
    for _ in range(20):
        with Watch([], lambda failure: None), Insistence(lambda number: None, lambda number: None):
            assert len(threading.enumerate()) == len(before) + 2
        assert threading.enumerate() == before


@pytest.mark.slow
@pytest.mark.numeric
def test_batch_normalisation_has_one_set_of_statistics(train, tmp_path) -> None:
    """What was saved gives, in one process, the scores that two processes reported."""
    finish(start(tmp_path, *SMALL, "epochs=3", "name=two", *TWO))
    train(*SMALL, "epochs=0", "name=one", "model.weights=outputs/two")
    one, two = (tmp_path / "outputs" / name for name in ("one", "two"))
    assert_same_test(one, two, tolerance(load_model(open_run(one))[0]))


@pytest.mark.full
def test_from_one_process_to_two_and_back(tmp_path) -> None:
    arguments = (*SMALL, "model.norm=group", "epochs=30", "scheduler=constant", "lr=0.05", "name=a", "checkpoint.every_steps=5")
    directory, steps = tmp_path / "outputs" / "a", []
    for extra in ((), TWO, ()):
        process = start(tmp_path, *arguments, *extra)
        wait_for(lambda: (directory / "summary.json").exists() and len(summary(directory)["sessions"]) > len(steps), process)
        before = (directory / "metrics.csv").stat().st_size
        wait_for(lambda: (directory / "metrics.csv").stat().st_size > before + 500, process)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        finish(process, 75)
        steps.append(torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"])
    assert steps == sorted(set(steps))
    call(tmp_path, ROOT / "train.py", *arguments)
    kept = summary(directory)
    assert [session["processes"] for session in kept["sessions"]] == [1, 2, 1, 1]
    assert [session["step"] for session in kept["sessions"]] == [0, *steps]
    told = [int(row["step"]) for row in rows(directory)]
    assert told == sorted({*range(4, 331, 4), *range(11, 331, 11)})


@pytest.mark.full
def test_an_interrupted_run_of_two_ends_like_the_undisturbed(tmp_path) -> None:
    """The random numbers of both processes go on too."""
    arguments = (*SMALL, *TWO, "model.norm=group", "model.dropout=0.3", "epochs=8", "name=a")
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    process, directory = start(tmp_path / "wild", *arguments), tmp_path / "wild" / "outputs" / "a"
    wait_for((directory / "checkpoints" / "last.pt").exists, process)
    process.send_signal(signal.SIGTERM)
    assert "interrupted by SIGTERM" in finish(process, 75)
    for folder in ("calm", "wild"):
        finish(start(tmp_path / folder, *arguments))
    assert_same_run(tmp_path / "calm" / "outputs" / "a", directory)


FAILING = """
import os, signal, time, torch

class NotMade(torch.optim.SGD):
    def __init__(self, *arguments, **settings):
        if os.environ.get("LOCAL_RANK") == "1":
            raise MemoryError("the GPU is full")
        time.sleep(600)

class Failing(torch.optim.SGD):
    def step(self, closure=None):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 5:
            if os.environ.get("LOCAL_RANK") == "1":
                FAULT
            time.sleep(SECONDS)
        return super().step(closure)
"""
RAISES, KILLED = 'raise ValueError("its disk is gone")', "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "fault", "seconds", "error"),
    [
        ("fabric", RAISES, 600, "process 1: ValueError: its disk is gone"),  # the first one waits for ever, as for a GPU
        ("torchrun", RAISES, 0, "process 1: ValueError: its disk is gone"),
        pytest.param("fabric", KILLED, 0, "process 1: it was killed by SIGKILL", marks=pytest.mark.full),
    ],
    ids=["waited for", "torchrun", "killed"],
)
def test_a_failing_process_ends_all_with_its_own_error(tmp_path, launcher, fault, seconds, error) -> None:
    (tmp_path / "failing.py").write_text(FAILING.replace("FAULT", fault).replace("SECONDS", str(seconds)))
    arguments = (*SMALL, "name=a", "epochs=50", "optimizer._target_=failing.Failing", "optimizer.fused=false")
    output = finish(start(tmp_path, *arguments, *TWO) if launcher == "fabric" else torchrun(tmp_path, *arguments), 1)
    kept = summary(tmp_path / "outputs" / "a")
    assert (kept["status"], kept["error"]) == ("failed", error), output
    assert f"outputs/a: failed: {error}" in output
    assert fault is KILLED or "failing.py" in (tmp_path / "outputs" / "a" / "train.log").read_text()  # the traceback that matters


@pytest.mark.slow
def test_a_process_that_fails_before_training_ends_those_that_wait_for_it(tmp_path) -> None:
    (tmp_path / "failing.py").write_text(FAILING.replace("FAULT", "pass"))
    output = finish(start(tmp_path, *SMALL, "name=a", "optimizer._target_=failing.NotMade", *TWO), 1)
    assert "outputs/a: failed: process 1: MemoryError: the GPU is full" in output and "failing.py" in output
    assert not (tmp_path / "outputs" / "a").exists()


@pytest.mark.slow
def test_mistakes(train, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time; time.sleep(2 * (os.environ.get('RANK') == '0'))"
    )  # it comes last, and is heard
    assert "torchrun --nproc-per-node 2 train.py" in finish(torchrun(tmp_path, "-m", *SMALL, "seed=0,1"), 1)
    assert "torchrun --nproc-per-node 2 train.py" in finish(torchrun(tmp_path, "sweep=seeds", *SMALL), 1)
    assert not (tmp_path / "multirun").exists()
    error = train("-m", *SMALL, "fabric.devices=2", "seed=0,1", status=2).stderr
    assert "torchrun --nproc-per-node 2 train.py" in error and "jobs 0, 1 (data=digits" in error
    assert "GPUs only" in train(*SMALL, "fabric.sync_batch_norm=true", status=2).stderr
