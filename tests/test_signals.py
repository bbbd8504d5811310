"""A signal ends a command at any moment with one line and its status; what is left behind is whole, or nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, call
from test_resume import finish, start, wait_for  # noqa: F401
from test_run import summary

from resnet.runs.directory import RunDirectory

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
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("sitecustomize.py", "__pycache__"))


@pytest.mark.slow
def test_a_signal_while_libraries_are_imported_ends_a_command_with_one_line(tmp_path) -> None:
    run, sweep = SMALL, ("-m", *SMALL[:-1], "seed=0,1", "sweep.name=s")
    cases = [
        ("train.py", run, "hydra", signal.SIGTERM, 75),
        ("train.py", run, "omegaconf", signal.SIGINT, 130),
        ("train.py", run, "numpy", signal.SIGUSR1, 75),
        ("train.py", run, "torch", signal.SIGINT, 130),
        ("train.py", run, "lightning_fabric", signal.SIGHUP, 75),
        ("train.py", run, "resnet.tracking.local", signal.SIGUSR2, 75),
        ("train.py", sweep, "resnet.sweeps.preflight", signal.SIGTERM, 75),
        ("train.py", sweep, "torch", signal.SIGINT, 130),
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
