"""A run that is killed, interrupted or damaged goes on as if nothing had happened, or says why it cannot."""

import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import PATIENCE, ROOT, call
from test_run import inspect, records, rows, summary

from resnet.interrupt import Interrupted, StopSignals
from resnet.record.directory import RunDirectory
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError

# All that has a state: averaged weights, an adaptive optimizer, a schedule, random numbers in the network and before it.
BUSY = ("data=digits", "model.layers=[1,1]", "model.dropout=0.2", "model.stochastic_depth=0.2", "augment=crop_flip", "ema=0.9")
RECIPE = (*BUSY, "optimizer=adamw", "scheduler=cosine", "log_every=3", "name=a")
CLOCKS = {"seconds", "training_seconds", "images_per_second", "sha256"}  # the last one sums up rows that have the others


def start(folder, *arguments, **options):
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{folder}"}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def finish(process, status=0) -> str:
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == status, output
    return output


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until_free(directory) -> None:
    """A process that was killed while it started another one leaves the lock to that one, until it runs its own program."""
    deadline = time.monotonic() + PATIENCE
    while RunDirectory(directory).is_held_elsewhere and time.monotonic() < deadline:
        time.sleep(0.01)


def timeless(value):
    """Without what a clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CLOCKS}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def assert_same(one, other, where="") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{where}/{index}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


def assert_same_run(one, other) -> None:
    """Every file of two runs, times aside."""
    for name in ("last.pt", "best.pt"):
        contents = [timeless(torch.load(run / "checkpoints" / name, weights_only=True)) for run in (one, other)]
        assert_same(*contents, name)
    tables = [timeless(rows(run)) for run in (one, other)]
    assert tables[0] == tables[1]
    kept = [timeless(summary(run)) for run in (one, other)]
    for key in ("status", "error", "best", "last", "test", "config_hash", "parameters"):
        assert kept[0][key] == kept[1][key], key


def kill_until_done(folder, arguments, kills, seed) -> int:
    """Starts the run again and again; kills it at random moments, every second one while it writes a checkpoint."""
    chance, directory, done = random.Random(seed), folder / "outputs" / "a", 0
    while done < kills:
        before = summary(directory)["sessions"] if (directory / "summary.json").exists() else []
        process = start(folder, *arguments)
        wait_for(lambda: (directory / "summary.json").exists() and len(summary(directory)["sessions"]) > len(before), process)  # noqa: B023
        if done % 2:
            wait_for(lambda: (directory / "checkpoints" / ".last.pt.part").exists(), process)
        else:
            time.sleep(chance.uniform(0, 0.5))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        wait_until_free(directory)
        assert RunDirectory(directory).summary["status"] == "interrupted"
        done += 1
    call(folder, ROOT / "train.py", *arguments, WANDB_MODE="offline")
    return done


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "epochs"), [(3, 6), pytest.param(20, 30, marks=pytest.mark.full)])
def test_killed_again_and_again_it_ends_like_the_undisturbed(tmp_path, kills, epochs) -> None:
    arguments = (*RECIPE, f"epochs={epochs}", "checkpoint.every_steps=1", "wandb.mode=offline")
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    call(tmp_path / "calm", ROOT / "train.py", *arguments)
    assert kill_until_done(tmp_path / "wild", arguments, kills, seed=epochs) == kills
    runs = [tmp_path / folder / "outputs" / "a" for folder in ("calm", "wild")]
    assert_same_run(*runs)
    (file,) = (tmp_path / "wild" / "wandb").glob("offline-run-*/*.wandb")
    assert summary(runs[1])["wandb_run"] in file.name and inspect(file)["exit_code"] == 0
    history = [item["history"]["item"] for item in records(file) if item["type"] == "history"]
    assert [int(item["step"]) for item in history if "lr" in item] == [int(row["step"]) for row in rows(runs[1])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 75),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.full),
        *(pytest.param(number, 75, marks=pytest.mark.full) for number in (signal.SIGHUP, signal.SIGUSR1)),
    ],
)
def test_a_signal_saves_and_the_run_goes_on(tmp_path, number, status) -> None:
    arguments = (*RECIPE, "epochs=30")
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    process, directory = start(tmp_path / "wild", *arguments), tmp_path / "wild" / "outputs" / "a"
    wait_for((directory / "checkpoints" / "last.pt").exists, process)
    process.send_signal(number)
    assert "interrupted by" in finish(process, status)
    kept = summary(directory)
    assert kept["status"] == "interrupted"
    step = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"]
    assert f"continued: from step {step}" in call(tmp_path / "wild", ROOT / "train.py", *arguments).stdout
    call(tmp_path / "calm", ROOT / "train.py", *arguments)
    assert_same_run(tmp_path / "calm" / "outputs" / "a", directory)


def test_a_second_ctrl_c_does_not_wait() -> None:
    with StopSignals() as signals:
        signals.wait = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same one, passed on by a launcher
        assert signals.received == signal.SIGINT
        time.sleep(1.1)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
    with StopSignals(), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_cluster_s_own_answer_to_its_warning_comes_after_the_run() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: told.append(len(told)))
    try:
        with pytest.raises(Interrupted), StopSignals():
            try:
                os.kill(os.getpid(), signal.SIGUSR2)
            finally:
                assert not told
        assert told == [0]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two epochs whose schedule allows more."""
    folder = tmp_path_factory.mktemp("finished")
    call(folder, ROOT / "train.py", *LONGER, "epochs=2")
    return folder / "outputs" / "a"


LONGER = ("data=digits", "model.layers=[1,1]", "scheduler=constant", "name=a")


@pytest.fixture
def directory(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "outputs" / "a")
    return tmp_path / "outputs" / "a"


@pytest.mark.slow
def test_more_epochs_where_the_schedule_allows_them(train, directory) -> None:
    train(*LONGER, "epochs=3")
    kept = summary(directory)
    assert [session["extended"] for session in kept["sessions"]] == [[], ["epochs: 2 -> 3"]] and kept["last"]["step"] == 33
    assert "epochs: 3 -> 2" in train(*LONGER, "epochs=2", status=2).stderr


@pytest.mark.slow
def test_more_epochs_where_it_does_not(train, tmp_path) -> None:
    train(*QUICK_CYCLE, "epochs=1")
    error = train(*QUICK_CYCLE, "epochs=2", status=2).stderr
    assert "model.weights=outputs/a" in error and error.count("\n") == 1
    new = shlex.split(error[error.index("python train.py") :])[2:-1]
    train(*new, "name=b")
    assert summary(tmp_path / "outputs" / "b")["status"] == "finished"


QUICK_CYCLE = ("data=digits", "model.layers=[1]", "name=a")


def damage(path, how) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 3] if how == "cut short" else content)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flipped", "cut short"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(train, directory, how) -> None:
    damage(directory / "checkpoints" / "last.pt", how)
    text = train(*LONGER, "epochs=3").stdout
    assert "checkpoints/last.pt: damaged" in text and "from step 11 (checkpoints/previous.pt)" in text
    assert [int(row["step"]) for row in rows(directory)] == [11, 20, 22, 33]


@pytest.mark.slow
def test_without_a_good_checkpoint_nothing_starts(train, directory) -> None:
    for name in ("last.pt", "previous.pt"):
        damage(directory / "checkpoints" / name, "flipped")
    before = {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
    error = train(*LONGER, "epochs=3", status=2).stderr
    assert "last.pt: damaged" in error and "previous.pt: damaged" in error and "no good checkpoint is left" in error
    assert {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_rows_beyond_the_checkpoint_are_dropped(train, directory) -> None:
    with (directory / "metrics.csv").open("a") as file:
        file.write("25,2.272727,0.1,0.9,,,0.2,1000,9\n30,2.7")  # the second one was cut short
    train(*LONGER, "epochs=3")
    assert [int(row["step"]) for row in rows(directory)] == [11, 20, 22, 33]


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(directory, tmp_path) -> None:
    before = (directory / "checkpoints" / "last.pt").read_bytes()

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    text = finish(start(tmp_path, *LONGER, "epochs=3", preexec_fn=small_files), status=1)
    assert "cannot be written" in text and "step 22 is kept" in text and "Traceback" not in text
    assert (directory / "checkpoints" / "last.pt").read_bytes() == before
    assert "from step 22" in call(tmp_path, ROOT / "train.py", *LONGER, "epochs=3").stdout


def test_a_disk_that_takes_no_config_is_left_as_it_was(tmp_path) -> None:
    def tiny_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    assert "config.yaml: cannot be written" in finish(start(tmp_path, *LONGER, "epochs=3", preexec_fn=tiny_files), status=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("key", "before_last"), [("every_steps=4", 8), ("every_minutes=1e-6", 10), ("every_minutes=null", None)])
def test_checkpoints_by_steps_and_by_time(train, tmp_path, key, before_last) -> None:
    train("data=digits", "model.layers=[1]", "epochs=1", "name=a", f"checkpoint.{key}")  # 11 steps
    path = tmp_path / "outputs" / "a" / "checkpoints" / "previous.pt"
    assert (torch.load(path, weights_only=True)["progress"]["step"] if path.exists() else None) == before_last


@pytest.mark.slow
def test_two_processes_in_one_directory(train, tmp_path) -> None:
    process, directory = start(tmp_path, *RECIPE, "epochs=500"), tmp_path / "outputs" / "a"
    wait_for((directory / "checkpoints" / "last.pt").exists, process)
    assert "another process is training into it" in train(*RECIPE, "epochs=500", status=2).stderr
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_another_number_of_threads_is_said(directory, tmp_path) -> None:
    kept = json.loads((directory / "summary.json").read_text())
    kept["sessions"][-1]["threads"] = 7
    (directory / "summary.json").write_text(json.dumps(kept))
    assert "threads 7 before, 1 now" in call(tmp_path, ROOT / "train.py", *LONGER, "epochs=3").stdout


def test_no_flipped_byte_goes_unnoticed(tmp_path) -> None:
    path, chance = tmp_path / "a.pt", random.Random(0)
    content = {"model": {"weight": torch.arange(500.0), "bias": torch.ones(3)}, "progress": {"step": 3, "best": None}}
    with path.open("wb") as file:
        checkpoint.save(content, file)
    good = path.read_bytes()
    for _ in range(300):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        try:
            loaded = checkpoint.load(path)
        except CheckpointError as error:
            assert str(path) in str(error)
        else:
            assert_same(loaded, content)
