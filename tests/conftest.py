"""What tests share: a project in a temporary folder, and the command line run as a user runs it."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

ROOT = forked.ROOT
Done = subprocess.CompletedProcess[str]
Train = Callable[..., Done]
PATIENCE = 400  # seconds for a command before it counts as one that hangs; slow machines take four times as long as fast ones
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # where nothing listens
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(forked.HEAVY)
# PyTorch's own loops, its convolutions and its matrix products compute, and round, as they would on a processor without AVX.
OLDER_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--older-processor", action="store_true", help="compute as a processor without AVX does (x86)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("older_processor"):
        os.environ.update(OLDER_PROCESSOR)  # before anything imports torch
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & has ignored, by whatever the tests start too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="cache-")  # what tests decode is not kept
    os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel: one thread each
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # and the same everywhere


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def call(folder: Path, *arguments: object, status: int = 0, **environment: str) -> Done:
    """`python ARGUMENTS` in a folder, offline."""
    kept = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    kept |= {"HOME": str(folder), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **NO_NETWORK, **environment}
    with tempfile.TemporaryDirectory() as outputs:
        paths = Path(outputs, "out"), Path(outputs, "err")
        process = FORKS.Process(target=forked.run, args=(folder, kept, [str(argument) for argument in arguments], paths))
        process.start()
        process.join(PATIENCE)
        process.kill()  # of one that hangs
        process.join()
        done = Done(arguments, process.exitcode or 0, *(path.read_text() if path.exists() else "" for path in paths))
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Runs `python train.py ...` in an empty folder, offline."""
    return lambda *arguments, status=0: call(tmp_path, ROOT / "train.py", *arguments, status=status)


def compose(*overrides: str):  # type: ignore[no-untyped-def]
    """The checked config that the command line would give."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from resnet.config import load_config

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(hydra_compose("train", [*overrides]))


def saved_config(**changes: Any) -> dict[str, Any]:
    """What train.py writes into config.yaml; of a group only the keys that are given change, but of those with a _target_ all."""
    config = _default_config()
    for key, value in changes.items():
        is_whole = not isinstance(value, dict) or key in ("optimizer", "scheduler")
        config[key] = value if is_whole else {**config[key], **value}
    return config


def _default_config() -> dict[str, Any]:
    from resnet.config.hashing import plain_values

    if not _composed:
        _composed.append(json.dumps(plain_values(compose("data=digits"))))
    return json.loads(_composed[0])  # type: ignore[no-any-return]


_composed: list[str] = []


def real_data(*parts: str) -> Path:
    """A file of the real data sets under data/, or a skip that says what is missing."""
    path = ROOT.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there: the full data set is needed")
    return path


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory):  # type: ignore[no-untyped-def]
    """Two finished runs on real digits that differ in their seed alone. Tests that write into one copy it first."""
    import resnet

    small = ("data=digits", "data.val_size=200", "model.layers=[1,1]", "model.width=8", "epochs=6", "wandb=disabled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("small_runs"))
        return [resnet.train([*small, f"seed={seed}", f"name=seed{seed}"]).directory.path for seed in (0, 1)]
