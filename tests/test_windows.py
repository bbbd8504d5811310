"""What native Windows lacks: there the code imports, trains, resumes and compares in one process. Shown by taking those names away."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_run import summary

LACKING = """
import importlib.abc, os, runpy, signal, sys, warnings

POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog"}

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in POSIX:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in dir(signal):
    if name[:3] == "SIG" and name[3] != "_" and name not in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"):
        delattr(signal, name)
for name in ("pthread_kill", "pthread_sigmask", "sigwait", "alarm", "setitimer", "siginterrupt", "pause"):
    delattr(signal, name)
for name in ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "setsid", "killpg", "mkfifo", "chown", "O_DIRECTORY",
             "sched_getaffinity", "getloadavg", "wait3", "wait4", "nice"):
    delattr(os, name)
warnings.filterwarnings("error", category=EncodingWarning, module=r"(resnet|train|__main__)([.].*)?$")
import logging
logging.getLogger("filelock").setLevel("ERROR")
sys.argv = sys.argv[1:]
if sys.argv[0] == "-m":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""

SOURCES = [ROOT / "train.py", *(path for folder in ("resnet", "benchmarks", "experiments") for path in (ROOT / folder).rglob("*.py"))]


def without_encoding(path: Path) -> list[str]:
    """Where a text file, or the text of a pipe, is opened in whatever encoding the machine has."""
    found = []
    for call_ in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(call_, ast.Call):
            continue
        name = call_.func.attr if isinstance(call_.func, ast.Attribute) else getattr(call_.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in call_.keywords}
        texts = [
            value.value for value in [*call_.args, *given.values()] if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        is_binary = any(re.fullmatch("[rwax]?b[+]?|[rwax][+]?b", text) for text in texts)
        is_file = name in ("read_text", "write_text", "NamedTemporaryFile", "TemporaryFile", "fdopen")
        is_open = name == "open" and (isinstance(call_.func, ast.Name) or not is_module(call_.func))
        is_pipe = {"text", "universal_newlines"} & given.keys()
        if (is_file or is_open or is_pipe) and not is_binary and "utf-8" not in texts and "utf-8-sig" not in texts:
            found.append(f"{path.relative_to(ROOT)}:{call_.lineno}")
    return found


def is_module(function: ast.Attribute) -> bool:
    """`Image.open`, `os.open`: not a text file."""
    return isinstance(function.value, ast.Name) and function.value.id in (
        "Image",
        "archive",
        "os",
        "search",
        "self",
        "tarfile",
        "webbrowser",
    )


def test_every_text_file_is_opened_as_utf_8() -> None:
    assert [place for path in SOURCES for place in without_encoding(path)] == []


RUN = ("data=digits", "model.layers=[1]", "model.width=4", "scheduler=constant", "name=a")


@pytest.mark.slow
def test_without_what_windows_lacks_it_trains_resumes_and_compares_in_one_process(tmp_path) -> None:
    (tmp_path / "without.py").write_text(LACKING, "utf-8")
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}  # as it writes into a pipe

    def windows(*arguments, status=0):
        command = [sys.executable, "-X", "warn_default_encoding", "without.py", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="cp1252")
        assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
        return done

    windows(ROOT / "train.py", *RUN, "epochs=1")
    assert "continued: from step 11" in windows(ROOT / "train.py", *RUN, "epochs=2").stdout
    windows("-m", "resnet", "resume", "outputs/a", "epochs=3")
    assert summary(tmp_path / "outputs" / "a")["last"]["step"] == 33
    assert "page: page.html" in windows("-m", "resnet", "compare", "outputs/a", "--html", "page.html").stdout
    (tmp_path / "kill.py").write_text(KILL, "utf-8")
    windows(tmp_path / "kill.py", ROOT / "train.py", *RUN[:-1], "name=b", "epochs=50", status=75)
    assert (summary(tmp_path / "outputs" / "b")["status"], summary(tmp_path / "outputs" / "b")["error"]) == ("interrupted", "SIGTERM")


KILL = """
import runpy, signal, sys
from resnet.training.learner import Learner

step, calls = Learner.step, []

def stopped(*arguments):
    calls.append(1)
    if len(calls) == 20:
        signal.raise_signal(signal.SIGTERM)
    return step(*arguments)

Learner.step = stopped
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
