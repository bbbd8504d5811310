"""Runs one command line in a child of a process that has imported the heavy libraries already: seconds less a time."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = [
    "resnet.run",
    "resnet.analysis.export",
    "resnet.analysis.evaluate",
    "resnet.analysis.describe",
    "resnet.record.wandb",
    "torchvision",
]
HEAVY += ["hydra", "matplotlib.figure", "sklearn.metrics", "scipy.stats", "torch._dynamo", "optuna"]
HEAVY += ["bokeh.plotting", "bokeh.models", "jinja2", "resnet.analysis.page"]


def run(folder: Path, environment: dict[str, str], arguments: list[str], outputs: tuple[Path, Path]) -> None:
    """`arguments` as python takes them, beginning with a script or with -m and a module."""
    for stream, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:0] = [str(folder), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
