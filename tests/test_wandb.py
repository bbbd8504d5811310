"""W&B for real: its client against a server of ours. It mirrors a run, and neither decides how the run ends nor reaches beyond it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import PATIENCE, ROOT, call
from wandb_server import Server

from resnet.config import UserError
from resnet.config.environment import VARIABLES, wandb_settings
from resnet.record import wandb_record
from resnet.record.directory import RunDirectory
from resnet.record.trackers import TrackerError
from resnet.record.wandb import Client, display_name

QUICK = ("data=digits", "model.layers=[1]", "model.width=4")
LONG = (*QUICK, "epochs=60", "log_every=5", "name=a")


def summary(run):
    return json.loads((run / "summary.json").read_text())


def steps(run):
    return [int(row["step"]) for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())]


def offline_records(folder):
    return sorted(path.name for path in (folder / "wandb").glob("offline-run-*"))


@pytest.fixture
def server():
    with Server() as running:
        yield running


def train(folder, *arguments, status=0, **environment):
    return call(folder, ROOT / "train.py", *arguments, status=status, **{"WANDB_MODE": "", **environment})


def start(folder, *arguments, **environment):
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    known = {**os.environ, "WANDB_MODE": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment}
    return subprocess.Popen(command, cwd=folder, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(process, text) -> str:
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(seen)


def descendants(pid):
    """Of a process, with the commands that they run."""
    table = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    found, parents = {}, {str(pid)}
    while parents:
        inner = {child: command for child, parent, command in rows if parent in parents}
        found |= inner
        parents = set(inner)
    return {int(child): command for child, command in found.items()}


def send(process, number, name) -> None:
    (target,) = [child for child, command in descendants(process.pid).items() if name in command]
    os.kill(target, number)


MEASURED = ("choose_by=val/macro_f1", "metrics=[calibration_error]")


@pytest.mark.slow
def test_an_online_run_arrives_whole_as_the_environment_says(tmp_path, server) -> None:
    told = {"PROJECT": "mine", "TAGS": "one, two", "JOB_TYPE": "trial", "NOTES": "hello", "NAME": "ignored", "RUN_GROUP": "", "ENTITY": ""}
    environment = {f"WANDB_{name}": value for name, value in told.items()}
    train(tmp_path, *QUICK, "epochs=2", *MEASURED, "name=a", "wandb=online", "wandb.name=chosen", **environment, **server.environment)
    run, kept = tmp_path / "outputs" / "a", yaml.safe_load((tmp_path / "outputs/a/config.yaml").read_text())["wandb"]
    assert kept == {
        **{"mode": "online", "project": "mine", "tags": ["one", "two"], "job_type": "trial", "notes": "hello", "name": "chosen"},
        **{"group": None, "entity": None, "dir": ".", "log_model": False},
    }
    (arrived,) = server.runs.values()
    assert (arrived["id"], arrived["project"], arrived["name"]) == (summary(run)["wandb_run"], "mine", "chosen")
    assert {"one", "two", *QUICK, "epochs=2", *MEASURED} == set(arrived["tags"]) and arrived["job_type"] == "trial"
    assert list(arrived["history"]) == steps(run) and arrived["exit_code"] == 0
    assert arrived["config"]["model"]["width"] == 4 and arrived["config"]["overrides"] == [*QUICK, "epochs=2", *MEASURED]
    assert arrived["summary"]["test/accuracy"] == summary(run)["test"]["accuracy"]
    rows = [row for row in RunDirectory(run).metrics if row["val/accuracy"] is not None]
    for name, best in (("accuracy", max), ("macro_f1", max), ("calibration_error", min)):
        assert arrived["summary"][f"val/{name}"][best.__name__] == best(row[f"val/{name}"] for row in rows)
    assert (run / ".mirrored").exists()


@pytest.mark.slow
def test_a_killed_online_run_goes_on_with_each_step_once(tmp_path, server) -> None:
    arguments = (*QUICK, "epochs=30", "log_every=5", "name=a", "wandb=online", "checkpoint.every_steps=7")
    process = start(tmp_path, *arguments, **server.environment)
    read_until(process, "epoch 8/")
    process.kill()
    process.communicate()
    train(tmp_path, *arguments, **server.environment)
    (arrived,) = server.runs.values()
    run = tmp_path / "outputs" / "a"
    assert list(arrived["history"]) == steps(run) and arrived["exit_code"] == 0 and len(summary(run)["sessions"]) == 2
    assert all(len(rows) == 1 for step, rows in arrived["history"].items() if step != max(arrived["history"]))


@pytest.mark.slow
def test_offline_runs_of_a_sweep_are_synced(tmp_path, server) -> None:
    done = call(
        tmp_path, ROOT / "train.py", "-m", *QUICK, "epochs=2", "seed=0,1", "optimizer=sgd,adam", "sweep.name=s", "wandb=offline"
    ).stdout
    assert "wandb leet wandb; upload: wandb sync wandb/offline-run-*" in done
    known = {**os.environ, **server.environment, "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "wandb", "sync", *(f"wandb/{name}" for name in offline_records(tmp_path))]
    subprocess.run(command, cwd=tmp_path, env=known, check=True, capture_output=True, timeout=PATIENCE)
    runs = {summary(path.parent)["wandb_run"]: path.parent for path in (tmp_path / "multirun" / "s").glob("*/summary.json")}
    assert server.runs.keys() == runs.keys() and len(runs) == 4
    assert {arrived["name"] for arrived in server.runs.values()} == {f"seed={n} optimizer={way}" for way in ("sgd", "adam") for n in (0, 1)}
    for name, arrived in server.runs.items():
        kept = summary(runs[name])
        assert arrived["group"] == "s" and set(arrived["tags"]) == set(kept["overrides"]) and arrived["exit_code"] == 0
        assert arrived["config"]["seed"] == kept["seed"] and list(arrived["history"]) == steps(runs[name])
        accuracy = arrived["summary"]["val/accuracy"]
        assert (accuracy["max"], accuracy["last"]) == (kept["best"]["val/accuracy"], kept["last"]["val/accuracy"])


@pytest.mark.full
def test_an_agent_of_wandb_sweeps_works_on_our_file(tmp_path, server) -> None:
    for name in ("train.py", "conf"):
        (tmp_path / name).symlink_to(ROOT / name)
    server.sweep = (ROOT / "wandb_sweep.yaml").read_text()
    values = {"lr": 0.1, "model.layers": [1], "model.width": 4, "epochs": 1}
    server.agents = [{"type": "run", "run_id": "r1d2", "program": "train.py", "args": {k: {"value": v} for k, v in values.items()}}]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, **server.environment, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "wandb", "agent", "me/resnet/abc", "--count", "1"]
    subprocess.run(command, cwd=tmp_path, env=known, check=True, capture_output=True, timeout=PATIENCE)
    (arrived,) = server.runs.values()
    assert (arrived["id"], arrived["sweep"], arrived["exit_code"]) == ("r1d2", "abc", 0)
    assert arrived["config"]["model"]["layers"] == [1] and arrived["summary"]["status"] == "finished"
    assert summary(tmp_path / "outputs" / "wandb_sweep" / "r1d2")["wandb_run"] == "r1d2"


def assert_finished_in_time(process, run) -> str:
    output = read_until(process, "epoch 60/")
    since = time.monotonic()
    output += process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and time.monotonic() - since < 40, output  # 30 s, and the pictures
    kept = summary(run)
    assert kept["status"] == "finished" and not (run / ".mirrored").exists() and "test" in kept
    (line,) = [line for line in output.splitlines() if line.startswith("warning: ")]
    assert "the W&B record is not complete: " in line and "python -m resnet resume outputs/a writes it again" in line
    assert line in (run / "train.log").read_text() and "Traceback" not in output
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "wandb-core"),
        pytest.param(signal.SIGSTOP, "wandb-core", marks=pytest.mark.full),
        pytest.param(signal.SIGKILL, "wandb_process.py", marks=pytest.mark.full),
        pytest.param(signal.SIGSTOP, "wandb_process.py", marks=pytest.mark.full),
        pytest.param(None, "its record is moved", marks=pytest.mark.full),
    ],
)
def test_a_client_that_dies_or_hangs_costs_the_run_nothing(tmp_path, number, name) -> None:
    process, run = start(tmp_path, *LONG, "wandb=offline"), tmp_path / "outputs" / "a"
    read_until(process, "epoch 2/")
    ours = descendants(process.pid)
    if number is None:
        (record,) = offline_records(tmp_path)
        (tmp_path / "wandb" / record).rename(tmp_path / "moved")
    else:
        send(process, number, name)
    assert_finished_in_time(process, run)
    time.sleep(1)
    assert not ours.keys() & descendants(os.getpid()).keys()
    before = summary(run)
    again = call(tmp_path, "-m", "resnet", "resume", "outputs/a", WANDB_MODE="").stdout
    assert "this run is finished" in again and "made what was missing: the W&B record" in again
    assert (run / ".mirrored").exists() and summary(run) == before
    assert [text.rpartition("-")[2] for text in offline_records(tmp_path)] == [before["wandb_run"]]  # the broken one made room


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["gone", pytest.param("500", marks=pytest.mark.full), pytest.param("silence", marks=pytest.mark.full)])
def test_a_server_that_fails_in_the_middle_costs_the_run_nothing(tmp_path, server, fault) -> None:
    process, run = start(tmp_path, *LONG, "wandb=online", "wandb.log_model=true", **server.environment), tmp_path / "outputs" / "a"
    read_until(process, "epoch 2/")
    if fault == "gone":
        server.stop()
    server.answer = fault
    assert "wandb sync wandb/run-" in assert_finished_in_time(process, run)
    with Server() as other:
        again = call(tmp_path, "-m", "resnet", "resume", "outputs/a", WANDB_MODE="", **other.environment).stdout
        assert "made what was missing: the W&B record" in again
        (arrived,) = other.runs.values()
        assert list(arrived["history"]) == steps(run) and arrived["exit_code"] == 0


@pytest.mark.slow
def test_the_next_job_of_a_sweep_has_a_client_of_its_own(tmp_path) -> None:
    process = start(tmp_path, "-m", *QUICK, "epochs=60", "seed=0,1", "sweep.name=s", "wandb=offline")
    output = read_until(process, "epoch 2/")
    send(process, signal.SIGKILL, "wandb-core")
    output += process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and output.count("warning: ") == 1, output
    runs = [path.parent for path in (tmp_path / "multirun" / "s").glob("*/summary.json")]
    assert sorted((run / ".mirrored").exists() for run in runs) == [False, True]


@pytest.mark.slow
def test_what_can_be_known_before_the_first_step(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, environment, message in (
        (["wandb.dir=file"], {}, "wandb.dir=file: file/wandb cannot be written (Not a directory); make room"),
        (["wandb.project=a/b"], {}, "wandb.project=a/b: W&B takes names of 1 to 128 characters"),
        (["wandb.project="], {}, "wandb.project=: W&B takes names"),
        ([], {"WANDB_MODE": "ofline"}, "WANDB_MODE=ofline: no such mode (did you mean offline?)"),
        (["wandb.dir=~nosuch/x"], {}, "wandb.dir=~nosuch/x: nobody of that name has a home here; write out"),
        (["wandb=online"], {}, "wandb.mode=online: No API key configured; run `wandb login`"),
    ):
        assert_refused(tmp_path, arguments, environment, message)


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ("gone", "check the network and WANDB_BASE_URL, or record offline"),
        ("500", "check the network and WANDB_BASE_URL, or record offline"),
        ("401", "check your key (`wandb login --relogin`)"),
        ("WANDB_API_KEY", "API key must have 40+ characters, has 5; set it right, or unset it"),
        ("WANDB_BASE_URL", "WANDB_BASE_URL=wrong: Input should be a valid URL, relative URL without a base; set it right, or unset it"),
    ],
)
def test_a_server_that_fails_at_the_start_is_told(tmp_path, server, fault, hint) -> None:
    environment = server.environment | ({fault: "wrong"} if fault.startswith("WANDB_") else {})
    if fault == "gone":
        server.stop()
    server.answer = fault
    assert_refused(tmp_path, ["wandb=online"], environment, hint)


def assert_refused(folder, arguments, environment, message) -> None:
    before = sorted(path.name for path in folder.iterdir())
    error = train(folder, *QUICK, "epochs=1", *arguments, status=2, **environment).stderr
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir() if path.name != ".cache") == before  # W&B's, in the home


def test_a_damaged_installation_of_wandb_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "wandb.py").write_text("raise ImportError('no protobuf')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    client = Client({})
    with pytest.raises(TrackerError, match=r"its process ended \(ImportError: no protobuf\)$"):
        client.answer(60)
    client.close()


@pytest.mark.slow
def test_a_home_that_is_no_folder(tmp_path) -> None:
    done = train(tmp_path, *QUICK, "epochs=1", "name=a", "wandb.log_model=true", HOME="/dev/null/me")
    assert (tmp_path / "outputs" / "a" / ".mirrored").exists() and done.stderr == ""
    assert list((tmp_path / "wandb" / ".data").rglob("*"))  # the checkpoint, for `wandb sync`


# whose record it is


def marker(folder, wandb_run):
    return folder / wandb_record.MARKERS / wandb_run


def test_an_id_that_is_another_s_is_not_taken(tmp_path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    (tmp_path / "offline-run-20260101_000000-old").mkdir()  # of an older version, which left no marker
    assert wandb_record.claim(tmp_path, "abc", mine) and wandb_record.claim(tmp_path, "abc", mine)
    assert not wandb_record.claim(tmp_path, "abc", theirs) and not wandb_record.claim(tmp_path, "old", theirs)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was interrupted, offline, in a folder of its own."""
    folder = tmp_path_factory.mktemp("stopped")
    process = start(folder, *QUICK, "epochs=20", "name=a", "wandb=offline", "checkpoint.every_steps=1")
    read_until(process, "epoch 2/")
    process.kill()
    process.communicate()
    return folder


@pytest.fixture
def project(stopped, tmp_path):
    """It, as if it had been trained here."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True, symlinks=True)
    run, kept = tmp_path / "outputs" / "a", summary(tmp_path / "outputs" / "a")
    (record,) = offline_records(tmp_path)
    marker(tmp_path / "wandb", kept["wandb_run"]).write_text(f"{run}\n")
    kept |= {"directory": str(run), "wandb_folder": str(tmp_path / "wandb" / record)}
    (run / "summary.json").write_text(json.dumps(kept))
    return tmp_path


@pytest.mark.slow
def test_a_copied_run_gets_a_record_of_its_own(project) -> None:
    (before,) = offline_records(project)
    shutil.copytree(project / "outputs" / "a", project / "outputs" / "b")
    done = call(project, "-m", "resnet", "resume", "outputs/b", WANDB_MODE="").stdout
    assert f"it was written to '{project}/outputs/a': this run gets a W&B record of its own" in done
    own = summary(project / "outputs" / "b")
    assert offline_records(project) == sorted({before, Path(own["wandb_folder"]).name}) and own["directory"] == f"{project}/outputs/b"
    assert own["wandb_run"] != summary(project / "outputs" / "a")["wandb_run"]


@pytest.mark.slow
def test_resumed_from_another_folder_it_has_one_record(project) -> None:
    (project / "elsewhere").mkdir()
    call(project / "elsewhere", "-m", "resnet", "resume", "../outputs/a", WANDB_MODE="")
    assert offline_records(project) == [] and len(offline_records(project / "elsewhere")) == 1


@pytest.mark.slow
def test_a_strangers_summary_leads_nowhere(project, server) -> None:
    """Neither to a folder, nor to the network, nor to an account."""
    victim = project / "victim"
    victim.mkdir()
    run = project / "outputs" / "a"
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["wandb"] |= {"mode": "online", "entity": "theirs", "project": "their-project"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    before = offline_records(project)
    told = {**summary(run), "wandb_run": "*/../../victim", "wandb_folder": str(victim), "directory": "/home/them/outputs/a"}
    (run / "summary.json").write_text(json.dumps(told))
    done = call(project, "-m", "resnet", "resume", "outputs/a", WANDB_MODE="", **server.environment).stdout
    assert victim.is_dir() and not server.runs and len(offline_records(project)) == len(before) + 1
    assert "it was not written here: not sent to 'theirs/their-project', as its config says; wandb.mode=online sends it to you" in done
    (run / "summary.json").write_text(json.dumps({**told, "status": "interrupted"}))
    call(project, "-m", "resnet", "resume", "outputs/a", "wandb.mode=online", WANDB_MODE="", **server.environment)
    (arrived,) = server.runs.values()
    assert arrived["project"] == "resnet" and arrived["entity"] in (None, "me") and wandb_record.ID.fullmatch(arrived["id"])


@pytest.mark.parametrize("change", ["name", "id", "parent", "link", "marker", "no marker", "other directory", "not text"])
def test_only_what_is_provably_its_own_is_deleted(tmp_path, change) -> None:
    run = tmp_path / "outputs" / "a"
    run.mkdir(parents=True)
    folder = (
        tmp_path / ("elsewhere" if change == "parent" else "wandb") / f"{'' if change == 'name' else 'offline-'}run-20260101_000000-abc"
    )
    folder.mkdir(parents=True)
    own = marker(folder.parent, "abc")
    own.parent.mkdir()
    own.write_text(f"{run.parent if change == 'other directory' else run}\n")
    told = {"wandb_run": "abcd" if change == "id" else "abc", "wandb_folder": str(folder)}
    if change == "no marker":
        own.unlink()
    if change == "marker":
        own.write_bytes(b"\xff\n")
    if change == "link":
        folder.rename(tmp_path / "real")
        folder.symlink_to(tmp_path / "real")
    if change == "not text":
        told = {"wandb_run": ["abc"], "wandb_folder": {"a": 1}}
    wandb_record.remove_own(told, run, tmp_path / "wandb")
    assert folder.exists()


def test_its_own_is_deleted_wherever_it_lies(tmp_path) -> None:
    run, there = tmp_path / "outputs" / "a", tmp_path / "there" / "wandb" / "offline-run-20260101_000000-abc"
    run.mkdir(parents=True)
    there.mkdir(parents=True)
    marker(there.parent, "abc").parent.mkdir()
    marker(there.parent, "abc").write_text(f"{run}\n")
    for _ in range(2):  # as after a kill between the two
        wandb_record.remove_own({"wandb_run": "abc", "wandb_folder": str(there)}, run, tmp_path / "wandb")
        assert not there.exists()


# the environment and the name


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({name: "" for name in VARIABLES} | {"WANDB_MODE": "", "WANDB_DISABLED": " "}, [], {}),
        ({"WANDB_PROJECT": "p", "WANDB_DIR": "d", "WANDB_NAME": "n"}, ["wandb.project=q"], {"dir": "d", "name": "n"}),
        ({"WANDB_TAGS": "a, b,,", "WANDB_RUN_GROUP": "g"}, ["lr=1"], {"tags": ["a", "b"], "group": "g"}),
        ({"WANDB_MODE": "online"}, ["wandb=disabled"], {}),
        ({"WANDB_MODE": "online"}, ["wandb.mode=offline"], {}),
        ({"WANDB_MODE": "dryrun"}, [], {"mode": "offline"}),
        ({"WANDB_MODE": "online", "WANDB_DISABLED": "true"}, [], {"mode": "disabled"}),
        ({"WANDB_MODE": "online", "WANDB_DISABLED": "false"}, [], {"mode": "online"}),
        ({"WANDB_MODE": "foo"}, ["wandb=online"], {}),
        ({"WANDB_MODE": "shared"}, [], "WANDB_MODE=shared: no such mode"),
        ({"WANDB_DISABLED": "maybe"}, [], "WANDB_DISABLED=maybe: true or false is needed"),
    ],
)
def test_command_line_then_environment_then_conf(monkeypatch, environment, given, expected) -> None:
    for name in [*VARIABLES, "WANDB_MODE", "WANDB_DISABLED"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            wandb_settings(given)
    else:
        assert wandb_settings(given) == expected


def test_a_name_says_what_differs_in_short() -> None:
    config = {"name": "a", "lr": 1, "model": {"width": 1, "layers": [1]}, "data": {"flip": 0, "name": "x"}, "augment": {"flip": 1}}
    single, swept = {**config, "sweep": {"varied": []}}, {**config, "sweep": {"varied": ["lr", "model.width"]}}
    overrides = ["data=digits", "model.width=8", "+lr=0.1", "augment.0.p=0.5"]
    assert display_name(overrides, single) == "data=digits width=8 lr=0.1 augment.0.p=0.5"
    assert display_name(overrides, swept) == "width=8 lr=0.1"
    name = display_name([f"model.width={'9' * 200}"], single)
    assert len(name) == 64 and name.endswith("…")
