"""A run directory from a stranger runs no code and leads nowhere; nothing of one's own secrets is written down."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
import yaml
from conftest import ROOT
from conftest import call as run_python
from test_commands import call

COMMANDS = ("resume", "evaluate", "export")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safety")
    run_python(folder, ROOT / "train.py", "data=digits", "model.layers=[1]", "epochs=1", "name=a")
    return folder / "outputs" / "a"


@pytest.fixture
def stranger(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def refused(stranger, reason, *commands) -> None:
    for command in commands or COMMANDS:
        error = call(stranger.parent, command, "run", status=2).stderr
        assert reason in error and "Traceback" not in error
    assert not (stranger.parent / "touched").exists()


class Payload:
    def __reduce__(self):
        return os.system, ("touch touched",)


@pytest.mark.slow
def test_a_pickled_payload_is_not_run(stranger) -> None:
    for name in ("best.pt", "last.pt"):
        torch.save({"model": Payload(), "progress": {"step": 1}}, stranger / "checkpoints" / name)
    refused(stranger, "asks to run code", "evaluate", "export")
    told = json.loads((stranger / "summary.json").read_text())
    (stranger / "summary.json").write_text(json.dumps({**told, "status": "interrupted"}))
    refused(stranger, "asks to run code", "resume")
    for name in ("best.pt", "last.pt"):
        (stranger / "checkpoints" / name).write_bytes(pickle.dumps(Payload()))
    refused(stranger, "damaged", "evaluate", "export")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["os.system", "torch.optim.optimizer.torch.os.system", "torch.optim.lr_scheduler.warnings.sys.exit"])
def test_a_target_outside_the_list_is_not_built(stranger, target) -> None:
    told = json.loads((stranger / "summary.json").read_text())
    (stranger / "summary.json").write_text(json.dumps({**told, "status": "interrupted"}))  # of a finished one, resume builds nothing
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["optimizer"] = {"_target_": target, "command": "touch touched", "lr": config["lr"]}
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, "not on the list of what a saved config may build", "resume")
    for command in ("evaluate", "export"):  # which build no optimizer
        call(stranger.parent, command, "run")
    config["optimizer"] = {"_target_": "torch.optim.SGD", "lr": config["lr"], "foo": {"_target_": target, "command": "touch touched"}}
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, "not on the list of what a saved config may build", "resume")


@pytest.mark.slow
def test_opening_it_downloads_nothing(stranger) -> None:
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["data"] |= {"name": "mnist", "_target_": "resnet.data.sources.mnist", "root": "nowhere"}
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, "data.download=false", "evaluate", "export")


OWN = "from torch.optim import SGD\nclass Mine(SGD): ...\n"


@pytest.mark.slow
def test_the_list_can_be_extended(stranger) -> None:
    (stranger.parent / "mine.py").write_text(OWN)
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["optimizer"]["_target_"] = "mine.Mine"
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, "mine.Mine: not on the list", "resume")
    call(stranger.parent, "resume", "run", "--allow", "mine")


@pytest.mark.slow
def test_ones_own_runs_need_no_permission_and_a_strangers_module_of_the_same_name_does(tmp_path) -> None:
    """What was built here is remembered outside the run directory, with the file that it came from."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "lab.py").write_text(OWN)
    training = (ROOT / "train.py", "data=digits", "model.layers=[1]", "max_steps=2", "name=a", "optimizer._target_=lab.Mine")
    run_python(mine, *training, HOME=str(tmp_path))
    run_python(mine, "-m", "resnet", "resume", "outputs/a", HOME=str(tmp_path))
    shutil.copytree(mine / "outputs", theirs / "outputs")
    error = run_python(theirs, "-m", "resnet", "resume", "outputs/a", HOME=str(tmp_path), status=2).stderr
    assert error.startswith("error: outputs/a: optimizer._target_=lab.Mine: not on the list") and error.count("\n") == 1


@pytest.mark.slow
def test_references_to_the_environment_are_not_followed(stranger) -> None:
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["wandb"]["notes"] = "${oc.env:HOME}"
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, "it is not followed")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/best.pt", "train.log"])
def test_links_that_leave_the_directory_are_refused(stranger, name) -> None:
    target = stranger.parent / "mine.txt"
    target.write_text("mine")
    (stranger / name).unlink()
    (stranger / name).symlink_to(target)
    refused(stranger, "leads out of the run directory")
    assert target.read_text() == "mine"


TELLS_ITS_PEAK = """import runpy
try:
    runpy.run_module("resnet", run_name="__main__")
finally:
    print(open("/proc/self/status").read())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_gigantic_tensor_takes_no_memory(stranger) -> None:
    """A header that claims a terabyte over a few bytes, and one that repeats a single number as often."""
    import io

    path = stranger / "checkpoints" / "best.pt"
    good = torch.load(path, weights_only=True)
    name = next(iter(good["model"]))
    torch.save({**good, "model": {**good["model"], name: torch.zeros(1).expand(2**38)}}, path)
    refused(stranger, "does not fit", "evaluate", "export")
    buffer = io.BytesIO()
    torch.save({**good, "model": {**good["model"], name: torch.zeros(77)}}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for record in source.infolist():
            content = source.read(record)
            if record.filename.endswith("data.pkl"):  # the number 77 as pickle writes it, twice: storage and shape
                assert b"KM" in content
                content = content.replace(b"KM", b"\x8a\x05\x00\x00\x00\x00\x40")
            target.writestr(record.filename, content)
    command = [sys.executable, "-c", TELLS_ITS_PEAK, "evaluate", str(stranger)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "best.pt" in done.stderr and done.stderr.count("\n") == 1
    assert int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) < 2**20


@pytest.mark.slow
def test_no_secret_is_written(tmp_path) -> None:
    secrets = {"WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567", "MY_TOKEN": "tok-8f3a5b1c", "DB_PASSWORD": "hunter2hunter2"}
    environment = {**os.environ, **secrets, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "remote", "add", "origin", "https://me:tok-8f3a5b1c@example.org/me/it.git"], cwd=tmp_path, check=True)
    command = [sys.executable, str(ROOT / "train.py"), "data=digits", "model.layers=[1]", "epochs=1", "name=a"]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    for file in (file for folder in ("outputs", "wandb") for file in (tmp_path / folder).rglob("*") if file.is_file()):
        assert not [name for name, value in secrets.items() if value.encode() in file.read_bytes()], file
    done = subprocess.run([*command, "wandb.notes=${oc.env:MY_TOKEN}"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "the environment variable MY_TOKEN" in done.stderr and secrets["MY_TOKEN"] not in done.stderr
