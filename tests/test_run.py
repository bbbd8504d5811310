"""A run from the command line: its directory, its identity, its ends."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import PATIENCE, ROOT
from PIL import Image, ImageColor

from resnet.record.curves import HELD_OUT, TRAINING
from resnet.record.directory import RunDirectory

QUICK = ("data=digits", "epochs=2", "model.layers=[1,1]")


def summary(path):
    return json.loads((path / "summary.json").read_text())


def rows(path):
    return list(csv.DictReader((path / "metrics.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_run_leaves_a_whole_record(train, tmp_path) -> None:
    done = train(*QUICK, "name=a")
    directory = tmp_path / "outputs" / "a"
    names = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    expected = {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "train.log",
        "curves.png",
        "report.html",
        "checkpoints/last.pt",
        "checkpoints/previous.pt",
    }
    expected |= {"checkpoints/best.pt"}
    assert names - {".lock", "code.patch"} == expected  # a patch where this checkout differs from its commit
    kept = summary(directory)
    assert kept["status"] == "finished" and kept["error"] is None and kept["overrides"] == [*QUICK[:2], QUICK[2]]
    assert kept["best"]["val/accuracy"] == max(float(row["val/accuracy"]) for row in rows(directory) if row["val/accuracy"])
    assert kept["seconds"] >= kept["training_seconds"]
    steps = [int(row["step"]) for row in rows(directory)]
    assert steps == sorted(set(steps)) and steps[-1] == 22
    assert f"{100 * kept['test']['accuracy']:.2f} %" in done.stdout and "outputs/a" in done.stdout
    assert torch.load(directory / "checkpoints/last.pt", weights_only=True)["progress"]["step"] == 22


@pytest.mark.slow
@pytest.mark.numeric
def test_same_seed_same_numbers_and_weights(train, tmp_path) -> None:
    for name in "ab":
        train(*QUICK, f"name={name}", "model.dropout=0.2", "augment=crop_flip")
    tables = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(tmp_path / "outputs" / n)]
        for n in "ab"
    ]
    assert tables[0] == tables[1]
    weights = [torch.load(tmp_path / "outputs" / n / "checkpoints/last.pt", weights_only=True)["model"] for n in "ab"]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_identity_finished_and_refused(train, tmp_path) -> None:
    train(*QUICK, "name=a")
    directory = tmp_path / "outputs" / "a"
    before = {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
    assert "this run is finished" in train(*QUICK, "name=a").stdout
    refused = train(*QUICK, "name=a", "lr=0.05", status=2).stderr
    assert "lr: 0.2 -> 0.05" in refused and refused.count("\n") == 1
    assert {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_a_loss_that_is_not_finite_fails_and_keeps_the_checkpoint(train, tmp_path) -> None:
    script = "scheduler.milestones=[15]"
    done = train(*QUICK, "name=a", "scheduler=multistep", script, "scheduler.gamma=1e30", "model.norm=none", "lr=0.01", status=1)
    kept = summary(tmp_path / "outputs" / "a")
    assert kept["status"] == "failed" and "not finite at step" in kept["error"]
    assert "its checkpoint of step 11 is kept" in done.stderr and "Traceback" not in done.stderr
    state = torch.load(tmp_path / "outputs" / "a" / "checkpoints/last.pt", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.slow
def test_a_killed_run_reads_as_interrupted(tmp_path) -> None:
    environment = {**os.environ, "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), "data=digits", "epochs=1000", "name=a"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    directory = RunDirectory(tmp_path / "outputs" / "a")
    deadline = time.monotonic() + PATIENCE
    while not (directory / "checkpoints/last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert directory.summary["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert directory.summary["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ("optimizer=adamw", "scheduler=cosine", "ema=0.9", "clip_grad_norm=1"),
        ("optimizer=adam", "scheduler=step", "augment=cutmix", "accumulate=4"),
        ("optimizer=muon", "model.block=bottleneck", "model.shortcut=projection_1x1"),
        ("optimizer=rmsprop", "scheduler=constant", "augment=mixup", "data.val_size=0"),
        ("optimizer=sgd", "scheduler=multistep", "augment=cutout", "decay_norm_and_bias=true", "deterministic=true"),
        ("optimizer._target_=torch.optim.Adagrad", "~optimizer.momentum", "~optimizer.nesterov", "early_stop=1", "eval_every=2"),
    ],
)
def test_choices_train(train, tmp_path, choices) -> None:
    train(*QUICK, "name=a", *choices)
    assert summary(tmp_path / "outputs" / "a")["status"] == "finished"


@pytest.mark.slow
def test_a_sweep_of_four_runs_with_one_wandb_run_each(train, tmp_path) -> None:
    grid = ("model.layers=[1,1,1],[2,2,2]", "optimizer=sgd,adam")
    train("-m", *grid, "data=digits", "epochs=1", "sweep.name=s", "wandb.mode=offline")
    runs = [summary(path.parent) for path in (tmp_path / "multirun" / "s").glob("*/summary.json")]
    assert [run["status"] for run in runs] == ["finished"] * 4
    assert len({run["wandb_run"] for run in runs}) == 4
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 4
    for file in files:
        record = inspect(file)
        kept = next(run for run in runs if run["wandb_run"] in file.name)
        assert record["summary"]["test/accuracy"] == kept["test"]["accuracy"]
        assert record["summary"]["val/accuracy"]["max"] == kept["best"]["val/accuracy"]
        assert record["config"]["model"]["layers"] in ([1, 1, 1], [2, 2, 2])
        assert record["exit_code"] == 0


@pytest.mark.slow
def test_what_wandb_is_told_of_a_run(train, tmp_path) -> None:
    chosen = ("wandb.tags=[pilot]", "wandb.notes=hello", "wandb.group=blocks", "wandb.job_type=trial", "wandb.log_model=true")
    train(*QUICK, "name=a", "wandb.mode=offline", "log_every=5", *chosen)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    record = inspect(file)
    assert record["name"] == "data=digits epochs=2 layers=[1,1] log_every=5" and record["notes"] == "hello"
    assert set(record["tags"]) == {"pilot", *QUICK, "log_every=5"}
    assert (record["config"]["wandb"]["group"], record["config"]["wandb"]["job_type"]) == ("blocks", "trial")
    assert record["config"]["optimizer"]["momentum"] == 0.9 and record["config"]["model"]["layers"] == [1, 1]
    history = [item["history"]["item"] for item in records(file) if item["type"] == "history"]
    told = {int(item["step"]): item for item in history if "train/loss" in item}
    kept = {int(row["step"]): row for row in rows(tmp_path / "outputs" / "a")}
    assert list(told) == list(kept)
    assert all(float(told[step]["train/loss"]) == float(kept[step]["train/loss"]) for step in kept)
    wrong = round(359 * (1 - summary(tmp_path / "outputs" / "a")["test"]["accuracy"]))
    assert len(list(file.parent.rglob("files/media/images/test/*.png"))) == min(wrong, 16)
    table = json.loads(next(file.parent.rglob("files/media/table/test/*.table.json")).read_text())
    assert sum(count for *_, count in table["data"]) == 359
    assert b"model-" + record["run_id"].encode() in file.read_bytes()


@pytest.mark.slow
def test_a_failed_run_is_marked_failed_in_wandb(train, tmp_path) -> None:
    train(*QUICK, "wandb.mode=offline", "optimizer.nesterov=false", "model.norm=none", "lr=1e30", "scheduler=constant", status=1)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    record = inspect(file)
    assert record["exit_code"] == 1 and record["summary"]["status"] == "failed"


@pytest.mark.slow
def test_curves_show_training_and_held_out(train, tmp_path) -> None:
    train(*QUICK, "name=a", "log_every=5")
    with Image.open(tmp_path / "outputs" / "a" / "curves.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {ImageColor.getrgb(TRAINING), ImageColor.getrgb(HELD_OUT)} <= colours


@pytest.mark.slow
def test_smoke_runs_and_early_ends(train, tmp_path) -> None:
    train(*QUICK, "name=few", "limit_batches=3")
    assert summary(tmp_path / "outputs" / "few")["last"]["step"] == 6
    train("data=digits", "epochs=50", "model.layers=[1]", "model.norm=none", "lr=1e-30", "early_stop=2", "name=early")
    kept = summary(tmp_path / "outputs" / "early")
    assert (kept["best"]["step"], kept["last"]["step"]) == (11, 33)  # 11 steps an epoch; weights that stand still are never better


def records(file):
    """Every record of a W&B file, by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    return [json.loads(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]


def inspect(file):
    """A W&B file, read back by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
