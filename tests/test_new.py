"""`python -m resnet new lab`: what it writes works as its README says."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    written = call(folder, "-m", "resnet", "new", "mine").stdout.split()
    assert {"mine/blocks.py", "mine/losses.py", "mine/test_mine.py", "mine/conf/experiment/mine.yaml"} < set(written)
    assert not [name for name in written if re.search(r"\blab\b", Path(folder, name).read_text())]
    return folder


@pytest.mark.slow
def test_its_tests_pass(folder) -> None:
    assert "3 passed" in call(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine").stdout


@pytest.mark.slow
def test_its_commands_run(folder) -> None:
    text = (folder / "mine" / "README.md").read_text()
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("python ")]
    assert len(commands) == 4
    for _, program, *arguments in commands[1:]:
        short = ["max_steps=2", "limit_batches=1", "model.layers=[1]"]
        short += ["sweep.preflight=false", "seed=0", "sweep.name=s"] if "-m" in arguments else []
        kept = [text for text in arguments if not (text.startswith("seed=") and "-m" in arguments)]
        call(folder, *([ROOT / program] if program != "-m" else ["-m"]), *kept, *short)


def test_it_writes_into_no_folder_that_holds_something(folder, tmp_path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "mine.txt").touch()
    for name, reason in (
        ("lab", "it is there and not empty"),
        ("my-lab", "cannot import a package of this name"),
        ("class", "cannot import"),
    ):
        assert reason in call(tmp_path, "-m", "resnet", "new", name, status=2).stderr
    assert [path.name for path in (tmp_path / "lab").iterdir()] == ["mine.txt"] and len(list(tmp_path.iterdir())) == 1
