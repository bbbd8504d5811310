"""What tests share: a project in a temporary folder, and the command line run as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel: one thread each


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Runs `python train.py ...` in an empty folder, offline."""

    def call(*arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        environment = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
        environment |= {"HOME": str(tmp_path.parent), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return call


def compose(*overrides: str):  # type: ignore[no-untyped-def]
    """The checked config that the command line would give."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from resnet.config import load_config

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(hydra_compose("train", [*overrides]))


def real_data(*parts: str) -> Path:
    """A file of the real data sets under data/, or a skip that says what is missing."""
    path = ROOT.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there: the full data set is needed")
    return path
