"""docs/extending.md: every example of the page, written into an empty folder and used from there."""

import re
import shlex
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, call
from test_folder import pictures

import resnet
from resnet.analysis.comparison import compare_all
from resnet.analysis.describe import describe
from resnet.analysis.evaluate import evaluate
from resnet.analysis.runs import look_for_runs
from resnet.config.cli import compose_config

PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = {re.match(r"# (lab/\w+\.py)\n", text)[1]: text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if "train.py" in line]
SHORT = ("limit_batches=2", "batch_size=32", "wandb=disabled", "eval_every=1")
# What is not on every machine, and what stands in for it here.
STAND_INS = {
    "data=mnist": "data=arrays data.path=gray.npz data.val_size=40",
    "data=cifar10": "data=arrays data.path=colour.npz data.val_size=40",
    "data.dataset=SVHN": "data.dataset=FakeData data.options={size:200,image_size:[3,32,32]}",
    "data.val_size=5000": "data.val_size=40",
}
NEEDS = {"data=torchvision": "scipy", "data=hugging_face": "datasets", "timm.": "timm"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the files of the page, small data sets, and a run to learn from."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    for name, channels in (("gray", 1), ("colour", 3)):
        images = {
            f"x_{part}": rng.integers(0, 256, (number, 32, 32, channels), np.uint8) for part, number in (("train", 200), ("test", 40))
        }
        np.savez(folder / f"{name}.npz", **images, y_train=np.arange(200) % 10, y_test=np.arange(40) % 10)
    pictures(folder / "FOLDER", train__cat=80, train__dog=80, test__cat=20, test__dog=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        resnet.train(["data=digits", "model.layers=[1]", "max_steps=2", "name=TEACHER", *SHORT])
        yield folder
        for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
            del sys.modules[name]


def overrides(command: str) -> list[str]:
    for key, module in NEEDS.items():
        if key in command:
            pytest.importorskip(module)
    _, _, *given = shlex.split(command, comments=True)
    return [text for one in given for text in STAND_INS.get(one, one).split(" " if one in STAND_INS else "\0")]


RUNS = [command for command in COMMANDS if "train.py -m" not in command]
SWEEPS = [command for command in COMMANDS if "train.py -m" in command]


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS)
def test_an_example_trains_goes_on_exactly_and_is_judged(lab, command, capsys) -> None:
    given, name = [*overrides(command), *SHORT, "scheduler=constant"], f"run{RUNS.index(command)}"
    resnet.train([*given, "max_steps=2", f"name={name}"])
    continued = resnet.train([*given, "max_steps=4", f"name={name}"])
    whole = resnet.train([*given, "max_steps=4", f"name={name}_whole"])
    for part in ("model", "optimizer"):
        assert_equal(*(torch.load(run.directory / "checkpoints/last.pt", weights_only=True)[part] for run in (continued, whole)))
    assert evaluate(whole, "test")["accuracy"]["value"] == whole.summary["test"]["accuracy"]
    assert describe(compose_config([*given, "max_steps=4"]))["parameters"] == whole.summary["parameters"]
    runs = look_for_runs([whole.directory.path, continued.directory.path]).runs
    (group,) = compare_all([], runs, "val/accuracy").groups
    assert len(group.values) == 1


def assert_equal(one, other) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


@pytest.mark.full
@pytest.mark.parametrize("command", RUNS)
def test_an_example_is_swept_and_exported(lab, command) -> None:
    name = f"sweep{RUNS.index(command)}"
    given = [*overrides(command), *SHORT, "max_steps=2", "seed=0,1", f"sweep.name={name}"]
    call(lab, ROOT / "train.py", "-m", *given, XDG_STATE_HOME=str(lab / "state"))
    first = sorted((lab / "multirun" / name).glob("*/config.yaml"))[0].parent
    assert "seeds" in call(lab, "-m", "resnet", "compare", f"multirun/{name}").stdout
    call(lab, "-m", "resnet", "export", first, XDG_STATE_HOME=str(lab / "state"))


@pytest.mark.full
@pytest.mark.parametrize("command", SWEEPS)
def test_a_sweep_of_the_page_runs_and_has_its_page(lab, command) -> None:
    _, *given = overrides(command)
    name = f"ready{SWEEPS.index(command)}"
    call(lab, ROOT / "train.py", "-m", *given, *SHORT, "max_steps=2", f"sweep.name={name}", XDG_STATE_HOME=str(lab / "state"))
    assert (lab / "multirun" / name / "report.html").stat().st_size > 100_000
