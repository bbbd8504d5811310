"""A signal ends a command at any moment with one line and its status; what is left behind is whole, or nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, ROOT, call
from test_resume import wait_for
from test_run import summary

from resnet.record.directory import RunDirectory

SMALL = ("data=digits", "model.layers=[1]", "model.width=4", "epochs=200", "name=a")
BEFORE = "interrupted by {} before training began; the same command starts it\n"

# Sends a signal to its own process at the first import of a module.
SENDER = """
import os, signal, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNAL_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Sender())
"""


def begin(folder, *arguments, **environment):
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}:{ROOT}", **environment}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("sitecustomize.py", "__pycache__"))


@pytest.mark.slow
def test_a_signal_while_libraries_are_imported_ends_a_command_with_one_line(tmp_path) -> None:
    run, sweep = SMALL, ("-m", *SMALL[:-1], "seed=0,1", "sweep.name=s")
    search = ("-m", *SMALL[:-1], "sweep=search", "sweep.name=s", "sweep.preflight=false")
    cases = [
        ("train.py", run, "hydra", signal.SIGTERM, 75),
        ("train.py", run, "omegaconf", signal.SIGINT, 130),
        ("train.py", run, "numpy", signal.SIGUSR1, 75),
        ("train.py", run, "torch", signal.SIGINT, 130),
        ("train.py", run, "lightning_fabric", signal.SIGHUP, 75),
        ("train.py", run, "resnet.record.local", signal.SIGUSR2, 75),
        ("train.py", sweep, "resnet.sweeps.preflight", signal.SIGTERM, 75),
        ("train.py", sweep, "torch", signal.SIGINT, 130),
        ("train.py", search, "sqlalchemy.dialects.sqlite", signal.SIGTERM, 75),
    ]
    for index, (program, arguments, module, number, status) in enumerate(cases):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SENDER)
        name = "Ctrl-C" if number == signal.SIGINT else number.name
        process = begin(folder, ROOT / program, *arguments, SIGNAL_AT=module, SIGNAL=str(int(number)))
        assert end(process) == (status, "", BEFORE.format(name)), module
        assert left(folder) == [], module


def assert_ended_cleanly(folder, process, number) -> None:
    """At whatever moment the signal came; the same command goes on."""
    status, output, errors = end(process)
    if status == 0 and summary(folder / "outputs" / "a")["status"] == "finished":  # it came too late
        return
    if status == -number and not left(folder):  # it came too early: Python itself had not started yet
        return
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert status == (130 if number == signal.SIGINT else 75), output + errors
    assert "Traceback" not in output + errors and errors.count("\n") <= 1 and f"interrupted by {name}" in output + errors
    assert [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())] == []
    if (folder / "outputs").exists():
        assert RunDirectory(folder / "outputs" / "a").status == "interrupted"
        assert summary(folder / "outputs" / "a")["error"] == name
    call(folder, ROOT / "train.py", *SMALL, "max_steps=400")
    assert summary(folder / "outputs" / "a")["status"] == "finished"


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6])
def test_a_signal_at_any_moment(tmp_path, number, seconds) -> None:
    process = begin(tmp_path, ROOT / "train.py", *SMALL, "max_steps=400")
    time.sleep(seconds)
    process.send_signal(number)
    assert_ended_cleanly(tmp_path, process, number)


@pytest.mark.slow
def test_a_signal_once_the_run_holds_its_directory(tmp_path) -> None:
    """A git of our own is asked for the commit by then: it sends the signal."""
    tool = tmp_path / "bin" / "git"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nkill -TERM $PPID\nsleep 5\n")
    tool.chmod(0o755)
    process = begin(tmp_path, ROOT / "train.py", *SMALL, "max_steps=400", PATH=f"{tool.parent}:{os.environ['PATH']}")
    assert_ended_cleanly(tmp_path, process, signal.SIGTERM)


STRANGE = """
import ctypes, os, pathlib, shutil, time, torch

here, calls = pathlib.Path("outputs/a"), []

class Strange(torch.optim.SGD):
    def step(self, closure=None):
        calls.extend([1] * (len(self.param_groups[0]["params"]) > 3))  # not of the dry step, on tiny tensors
        if len(calls) == 5 and not os.environ.get("WELL"):
            FAULT
        return super().step(closure)
"""
SHORT = (*SMALL[:-2], "epochs=2", "name=a", "optimizer._target_=strange.Strange", "optimizer.fused=false", "checkpoint.every_steps=2")
HANGING = """lock = ctypes.create_string_buffer(128)
            open("hangs", "w").close()
            for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(lock)"""


def train_with(folder, fault, status, **environment):
    (folder / "strange.py").write_text(STRANGE.replace("FAULT", fault))
    return call(folder, ROOT / "train.py", *SHORT, status=status, **environment)


@pytest.mark.slow
def test_a_second_signal_ends_a_step_that_hangs_in_native_code(tmp_path) -> None:
    (tmp_path / "strange.py").write_text(STRANGE.replace("FAULT", HANGING))
    process = begin(tmp_path, ROOT / "train.py", *SHORT)
    wait_for((tmp_path / "hangs").exists, process)
    for seconds in (0, 0.1, 1.5):  # the second one is a copy of the first, as a launcher passes it on
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
    status, output, errors = end(process)
    assert status == 75
    assert errors == "outputs/a: SIGTERM: it saves and ends after this step; a second signal ends it at once, without saving\n"
    assert "interrupted by a second SIGTERM in the middle of a step (train.log says where); its checkpoint of step 4 is kept" in output
    kept = summary(tmp_path / "outputs" / "a")
    assert (kept["status"], kept["error"]) == ("interrupted", "a second SIGTERM in the middle of a step (train.log says where)")
    assert 'strange.py", line' in (tmp_path / "outputs" / "a" / "train.log").read_text()
    train_with(tmp_path, HANGING, 0, WELL="1")
    told = summary(tmp_path / "outputs" / "a")
    assert told["status"] == "finished" and told["sessions"][0]["ended"] == kept["error"] and "ended" not in told["sessions"][1]


WORDLESS = "its process ended without a word: it was killed, ran out of memory, or the machine stopped"
CRASH = "its process died of a crash in native code ({}); the end of train.log says where"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "number", "error"),
    [
        ("ctypes.string_at(0)", signal.SIGSEGV, CRASH.format("Segmentation fault")),
        ("os.abort()", signal.SIGABRT, CRASH.format("Aborted")),
        ("os.kill(os.getpid(), 9)", signal.SIGKILL, WORDLESS),
    ],
)
def test_a_run_whose_process_died_reads_as_interrupted_with_what_is_known_of_it(tmp_path, fault, number, error) -> None:
    train_with(tmp_path, fault, -number)
    run = RunDirectory(tmp_path / "outputs" / "a")
    assert (run.summary["status"], run.summary["error"]) == ("interrupted", error)
    if number == signal.SIGSEGV:
        train_with(tmp_path, "os.kill(os.getpid(), 9)", -9)  # what the log said of the first death is not told of the second
        assert run.summary["error"] == WORDLESS
        train_with(tmp_path, fault, 0, WELL="1")
        assert [session.get("ended") for session in run.summary["sessions"]] == [error, WORDLESS, None]


GONE = {
    "shutil.rmtree(here)": "it was removed while the run was writing it; the run has ended",
    "here.rename('outputs/b')": "it was moved to {}/outputs/b while the run was writing it; the run has ended; python -m resnet resume",
    "here.rename('outputs/b'); shutil.copytree('outputs/b', here)": "it was moved to {}/outputs/b while",
    "shutil.rmtree(here); here.mkdir()": "it was removed, with something else in its place, while",
    "os.remove(here / 'metrics.csv')": "metrics.csv was removed from it while",
    "shutil.rmtree(here / 'checkpoints')": "checkpoints was removed from it while",
    "os.remove(here / '.lock')": ".lock was removed from it while",
    "shutil.rmtree(pathlib.Path.cwd())": "it was removed while",
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "message"), GONE.items())
def test_a_directory_that_is_taken_from_its_run_is_said_for_what_it_is(tmp_path, fault, message) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    error = train_with(folder, fault, 1).stderr
    assert error.count("\n") == 1 and f"outputs/a: {message.format(folder)}" in error, error
    ended = [path for name in "ab" if (path := folder / "outputs" / name / "summary.json").exists()]
    if "copytree" not in fault:
        assert all(summary(path.parent)["status"] == "failed" for path in ended)
    if "rmtree(here)" in fault or "cwd" in fault or fault[5:] == "rename('outputs/b')":
        assert not (folder / "outputs" / "a" / "metrics.csv").exists()  # not made anew
    if "rename" in fault:
        call(folder, "-m", "resnet", "resume", "outputs/b", "--allow", "strange", WELL="1")
        assert summary(folder / "outputs" / "b")["status"] == "finished"


@pytest.mark.slow
def test_what_nohup_ignores_stays_ignored_and_a_command_ends_with_one_line(tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SENDER)
    ignored = f"import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({sys.executable!r}, [{sys.executable!r}, *"
    command = ["-c", f"{ignored}__import__('sys').argv[1:]])", ROOT / "train.py", *SMALL, "max_steps=5"]
    status, _, errors = end(begin(tmp_path, *command, SIGNAL_AT="torch", SIGNAL=str(int(signal.SIGHUP))))
    assert (status, errors) == (0, "")
    for command, module, told in (
        (("resnet", "evaluate", "outputs/a"), "torch", "interrupted by Ctrl-C\n"),
        (("experiments.blocks", "--draw"), "matplotlib", "interrupted by Ctrl-C; the same command goes on\n"),
        (("benchmarks.beside",), "argparse", "interrupted by Ctrl-C\n"),
    ):
        process = begin(tmp_path, "-m", *command, SIGNAL_AT=module, SIGNAL=str(int(signal.SIGINT)))
        assert end(process) == (130, "", told)


LAST = """
import os

class Last:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, 15)

last = Last()
"""


def test_a_signal_while_python_ends_changes_no_status(tmp_path) -> None:
    """A second signal to a run that has saved, for instance: freeing what torch holds takes a while."""
    (tmp_path / "sitecustomize.py").write_text(LAST)
    status, output, errors = end(begin(tmp_path, ROOT / "train.py", "--version"))
    assert (status, errors) == (0, "") and output


ENDLESS = """
import signal, time
from pathlib import Path

def save(number, frame):
    time.sleep(0.2)
    Path("saved").touch()
    raise SystemExit(75)

signal.signal(signal.SIGTERM, save)
Path("begun").touch()
time.sleep(60)
"""


def test_a_study_passes_a_signal_on_to_its_sweep_and_waits_for_it(tmp_path) -> None:
    """Of a study in a folder of its own, whose train.py is another."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "train.py").write_text(ENDLESS)
    process = begin(tmp_path, "-m", "experiments", "data=digits")
    wait_for((tmp_path / "begun").exists, process)
    process.terminate()
    told = "interrupted by SIGTERM; the same command goes on\n"
    assert end(process) == (75, "experiments/degradation\n", 2 * told) and (tmp_path / "saved").exists()
