"""experiments/: a study trains its sweeps, skips what is trained, and keeps table, figure and README from the same rows."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from itertools import permutations
from pathlib import Path
from statistics import mean

import pytest
from conftest import ROOT, compose

from experiments.__main__ import ORDER
from experiments.gradients import ranges
from experiments.gradients.rates import slope
from experiments.search import __main__ as search
from resnet.analysis.naming import text_of
from resnet.analysis.runs import Run
from resnet.config import config_hash
from resnet.config.compose import set_by_sweep
from resnet.config.hashing import flatten
from resnet.sweeps.grid import compose_jobs, read_sweep

FILES = ("README.md", "results.csv", "figure.png")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The studies and train.py in a folder of their own."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for name in ("train.py", "conf"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    settings = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=settings, check=True, capture_output=True, text=True).stdout


@pytest.mark.full
def test_a_study_is_run_once_and_drawn_from_its_rows(copied) -> None:
    command = ("-m", "experiments.shortcuts", "data=digits", "epochs=1", "model.layers=[1]", "model.width=4", "wandb=disabled")
    folder = copied / "experiments" / "shortcuts"
    run(copied, *command)
    with (folder / "results.csv").open(newline="") as file:
        rows = [{key: json.loads(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 25 and {row["status"] for row in rows} == {"finished"}
    summaries = {path.parent: json.loads(path.read_text()) for path in copied.glob("multirun/shortcuts/*/summary.json")}
    for summary in summaries.values():  # what reports print to settle a difference trains the same config
        assert config_hash(compose(*summary["overrides"])) == summary["config_hash"]
    accuracies = [summary["best"]["val/accuracy"] for summary in summaries.values()]
    assert sorted(row["val/accuracy"] for row in rows) == pytest.approx(sorted(accuracies), abs=1e-6)
    plain = [100 * row["test/accuracy"] for row in rows if row["model.shortcut"] == "none"]
    assert f"| no shortcut | {mean(plain):.2f} ± " in (folder / "README.md").read_text()
    before = {name: (folder / name).read_bytes() for name in FILES}
    told = run(copied, *command)
    assert told.count("this run is finished") == 25
    assert {name: (folder / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_the_rate_of_gradients_is_that_from_layer_to_layer(factor: float) -> None:
    """Whatever the two convolutions of a block, or the stages, have to each other; layers whose gradient is zero tell nothing."""
    norms = [(1.4 if layer % 2 else 1) * (2 if layer >= 18 else 1) * factor**-layer for layer in range(54)]
    seen = [norms, [0.0] * 20 + norms[20:], [None, *norms[1:]]]
    row = {"gradients": [[step, [1.0, *layers, 1.0]] for step, layers in enumerate(seen)]}
    assert 10 ** slope(row, 0) == pytest.approx(factor)
    assert 10 ** slope(row, 1) == pytest.approx(factor)
    assert slope(row, 2) is None and slope(row, 3) is None


def test_batch_normalisation_s_range_is_told_as_found(capsys) -> None:
    ranges.main()
    *centred, outside, largest = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert centred == ["0.00", "0.00"]
    told = " ".join((ROOT / "experiments" / "gradients" / "README.md").read_text().split())
    assert f"{outside} of the normalised values lie outside [-1, 1], the largest at {largest}:" in told


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml")))
def test_what_a_sweep_sets_can_be_written_out(name) -> None:
    sweep = read_sweep([f"sweep={name}", "data.path=x"])
    for job in list(compose_jobs(sweep))[:3]:  # none of a search, which proposes its jobs
        grid = [text for text in job.overrides if not text.startswith("sweep")]
        given = {text.partition("=")[0] for text in grid}
        rest = [f"{key}={value}" for key, value in set_by_sweep(name).items() if key not in given]
        assert config_hash(compose(*grid, *rest)) == config_hash(job.config)


def test_the_best_of_a_sweep_is_chosen_on_held_out_images_and_trained_again_as_it_was() -> None:
    def run(sweep: str, lr: float, accuracy: float | None, loss: float, status: str = "finished") -> Run:
        config = {"sweep.name": sweep, "optimizer._target_": "torch.optim.Adam", "lr": lr, "model.layers": [2, 2, 2]}
        return Run("", config, {"status": status, "best": {"val/accuracy": accuracy, "val/loss": loss}, "test": {"accuracy": 1 - lr}})

    grid = [run("grid", 0.1, 0.8, 0.5), run("grid", 0.2, 0.9, 0.5), run("grid", 0.3, 0.9, 0.4), run("grid", 0.4, 0.95, 0.1, "failed")]
    searched = [run("grid_search", 0.0123456789012345, 0.7, 0.5), run("grid_search", 0.01, None, 0.1)]
    again = search.best_again([*grid, *searched])
    assert {"optimizer=adam", "lr=0.3", "seed=range(5)"} <= set(again["grid_again"])
    assert "lr=0.0123456789012345" in again["grid_search_again"]


def test_the_grid_s_best_so_far_is_that_of_any_order() -> None:
    found = [91.0, 88.0, 90.5, 86.0]
    orders = list(permutations(found))
    assert search.best_of_first(found) == pytest.approx([mean(max(order[:n]) for order in orders) for n in (1, 2, 3, 4)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_its_rows_can_be_told_apart(name) -> None:
    study = import_module(f"experiments.{name}.__main__").STUDY
    sweeps = [read_sweep([f"sweep={sweep}"]) for sweep in study.sweeps]
    configs = [asdict(job.config) for sweep in sweeps for job in compose_jobs(sweep)]
    runs = [Run("", flatten(config), {}) for config in configs]
    rows = [(*(text_of(run.setting(key)) for key in study.settings), run.seed) for run in runs]
    assert rows and len(set(rows)) == len(rows)


def test_every_study_is_in_the_index_and_in_the_order() -> None:
    folders = {path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py")}
    assert folders == set(ORDER)
    index = (ROOT / "experiments" / "README.md").read_text()
    assert all(f"]({name}/README.md)" in index for name in folders)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_its_readme_says_what_its_results_say(copied, name) -> None:
    folder = copied / "experiments" / name
    assert (folder / "results.csv").exists(), "not run"
    before = (folder / "README.md").read_text()
    run(copied, "-m", f"experiments.{name}", "--draw")
    assert (folder / "README.md").read_text() == before
    assert (folder / "figure.png").stat().st_size < 200_000


@pytest.mark.parametrize("name", ORDER)
def test_a_study_is_drawn_where_all_runs_of_a_setting_failed(name) -> None:
    study = import_module(f"experiments.{name}.__main__").STUDY
    with (study.folder / "results.csv").open(newline="") as file:
        rows = [{key: json.loads(value) for key, value in row.items()} for row in csv.DictReader(file)]
    settings = {tuple(text_of(row[key]) for key in study.settings) for row in rows}
    for failed in sorted(settings)[:: max(len(settings) // 8, 1)]:
        lost = {key: None for key in rows[0] if key.endswith("/accuracy")} | {"status": "failed"}
        left = [{**row, **lost} if tuple(text_of(row[key]) for key in study.settings) == failed else row for row in rows]
        assert study.figure(left).axes and len(study.table(left)) > 1
