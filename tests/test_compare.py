"""Comparison: the intervals are scipy's, the words are careful, nothing is averaged away."""

import json
import math
import random
import re

import pytest
import yaml
from conftest import call, saved_config
from scipy import stats

from resnet.analysis.compare import compare, in_words, seeds_to_settle
from resnet.analysis.comparison import as_data, compare_all, compare_runs
from resnet.analysis.filtering import filter_runs
from resnet.analysis.grouping import group_runs
from resnet.analysis.naming import differing
from resnet.analysis.runs import Run, look_for_runs
from resnet.analysis.tables import as_csv, as_latex, as_markdown, cells, sparkline
from resnet.config import UserError


def write(folder, name, lr, seed, accuracy, status="finished", **summary):
    directory = folder / name
    directory.mkdir(parents=True)
    config = saved_config(
        name=name,
        seed=seed,
        lr=lr,
        epochs=3,
        optimizer={"_target_": "torch.optim.SGD", "lr": lr},
        sweep={"name": "mine"},
        data={"root": f"/somewhere/{name}"},
    )
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    best = {"step": 3, "val/accuracy": accuracy, "val/loss": 1 - accuracy}
    kept = {
        "status": status,
        "error": None,
        "overrides": [f"lr={lr}", f"seed={seed}"],
        "best": best,
        "test": {"accuracy": accuracy - 0.01, "loss": 0.5},
        "commit": {"sha": "a", "dirty": False},
    }
    (directory / "summary.json").write_text(json.dumps({**kept, **summary}))


ONE, OTHER = [0.91, 0.93, 0.92, 0.95], [0.90, 0.91, 0.92, 0.92]


@pytest.fixture
def sweep(tmp_path):
    for seed, values in enumerate(zip(ONE, OTHER, strict=True)):
        for lr, value in zip((0.1, 0.2), values, strict=True):
            write(tmp_path, f"{lr}-{seed}", lr, seed, value)
    return tmp_path


def comparison(*arguments, **chosen):
    return as_data(compare_runs(*arguments, **chosen))


def groups(folder, metric="val/accuracy"):
    return group_runs(look_for_runs([folder]).runs, metric)


def test_seeds_make_groups_and_paths_do_not(sweep) -> None:
    first, second = groups(sweep)
    assert (first.name, second.name) == ("lr=0.1", "lr=0.2")
    assert first.values == {str(seed): value for seed, value in enumerate(ONE)}
    assert first.interval == pytest.approx(stats.t.interval(0.95, 3, first.mean, stats.sem(ONE)))


def test_same_seeds_are_paired_and_others_are_welchs(sweep) -> None:
    first, second = groups(sweep)
    paired = compare(second, first, 1)
    assert paired.is_paired and paired.higher == 0
    assert paired.interval == pytest.approx(tuple(stats.ttest_rel(OTHER, ONE).confidence_interval(0.95)))
    assert compare(second, first, 5).interval == pytest.approx(tuple(stats.ttest_rel(OTHER, ONE).confidence_interval(0.99)))
    write(sweep, "more", 0.2, 9, 0.94)
    first, second = groups(sweep)
    welch = compare(second, first, 1)
    expected = stats.ttest_ind([*OTHER, 0.94], ONE, equal_var=False).confidence_interval(0.95)
    assert not welch.is_paired and welch.interval == pytest.approx(tuple(expected))


def test_words_claim_no_more_than_the_interval(sweep) -> None:
    first, second = groups(sweep)
    text = in_words(compare(second, first, 1), True)
    assert text.startswith("-1.50 points, 95 % interval [-3.55, +0.55], 0 of 4 seeds higher: not resolved with 4 seeds")
    for seed in range(4):
        write(sweep, f"far-{seed}", 0.3, seed, ONE[seed] + 0.04 + 0.001 * seed)
    first, _, third = groups(sweep)
    assert in_words(compare(third, first, 2), True).endswith("4 of 4 seeds higher: higher in this setup")
    assert not {"significant", "equal"} & set(text.split())


def test_no_spread_is_no_certainty(tmp_path) -> None:
    """On a small test set seeds often tie; an interval of no width would resolve anything."""
    for seed in range(3):
        write(tmp_path, f"a-{seed}", 0.1, seed, 0.5)
        write(tmp_path, f"b-{seed}", 0.2, seed, 0.75)
    first, second = groups(tmp_path)
    difference = compare(second, first, 1)
    assert first.interval is None and not difference.is_resolved
    assert in_words(difference, True) == "+25.00 points, no spread over 3 seeds, no interval"


def test_differences_that_differ_by_rounding_alone_have_no_spread(tmp_path) -> None:
    """Each seed one image of 140 better."""
    for seed, right in enumerate((120, 127, 131)):
        write(tmp_path, f"a-{seed}", 0.1, seed, right / 140)
        write(tmp_path, f"b-{seed}", 0.2, seed, (right + 1) / 140)
    first, second = groups(tmp_path)
    assert len({b - a for a, b in zip(first.values.values(), second.values.values(), strict=True)}) > 1
    assert compare(second, first, 1).interval is None


def test_the_baseline_is_the_group_with_the_first_settings(sweep) -> None:
    """Whatever its folder is called."""
    for seed in range(4):
        write(sweep, f"z-{seed}", 0.05, seed, ONE[seed])
    assert compare_runs([sweep], "val/accuracy").baseline.name == "lr=0.05"


def test_a_seed_that_is_there_twice_counts_once_and_is_named(sweep) -> None:
    write(sweep, "twice", 0.1, 0, 0.5)
    result = comparison([sweep], "val/accuracy")
    assert result["groups"][0]["mean"] == pytest.approx(sum(ONE) / 4)
    assert result["left_out"] == [f"{sweep}/twice: the same config and seed as {sweep}/0.1-0, which counts"]


def test_json_has_the_numbers_of_each_difference(sweep) -> None:
    best, other = comparison([sweep], "val/accuracy")["groups"]
    assert best["difference"] is None and other["is_paired"]
    assert other["difference"] == pytest.approx(-0.015)
    assert other["difference_interval"] == pytest.approx(tuple(stats.ttest_rel(OTHER, ONE).confidence_interval(0.95)))


def test_commands_that_settle_give_all_groups_the_same_seeds(sweep) -> None:
    for seed in range(4):
        write(sweep, f"c-{seed}", 0.3, seed, ONE[seed] + (-1) ** seed * 0.01 + 0.003)
    commands = comparison([sweep], "val/accuracy")["settle"]
    assert len(commands) > 1 and len({command.split("seed=range")[1] for command in commands}) == 1


def test_what_cannot_be_compared_says_why(sweep) -> None:
    def said(**chosen):
        with pytest.raises(UserError) as error:
            comparison([sweep], "val/accuracy", **chosen)
        return str(error.value)

    assert "none of 8 runs meets it" in said(conditions="lr>3")
    assert ">0.05 is no value" in said(conditions="lr>>0.05")
    for run in look_for_runs([sweep]).runs:
        (sweep / run.path / "summary.json").write_text(json.dumps({**run.summary, "status": "failed", "error": "no disk"}))
    assert "no finished run with a val/accuracy among 8: " in said() and ": failed: no disk" in said()


def test_seeds_to_settle_are_the_fewest_that_resolve_it(sweep) -> None:
    first, second = groups(sweep)
    wanted = seeds_to_settle(second, first, 1)
    differences = [b - a for a, b in zip(ONE, OTHER, strict=True)]
    spread, size = stats.tstd(differences), abs(sum(differences) / 4)

    def is_resolved(n):
        return size > stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    assert is_resolved(wanted) and not is_resolved(wanted - 1)


def test_few_seeds_get_no_interval(tmp_path) -> None:
    write(tmp_path, "a", 0.1, 0, 0.9)
    write(tmp_path, "b", 0.2, 0, 0.8)
    write(tmp_path, "c", 0.2, 1, 0.82)
    table = cells(comparison([tmp_path], "val/accuracy", None, False))
    assert table[1][-2:] == ["one seed, no interval", "baseline"]
    assert table[2][-2] == "80.00 and 82.00" and "no interval" in table[2][-1]


def test_failed_and_missing_runs_are_named_and_cautions_said(sweep) -> None:
    write(sweep, "bad", 0.1, 7, 0.99, status="failed")
    write(sweep, "odd", 0.1, 8, float("nan"), commit={"sha": "b", "dirty": True})
    told = comparison([sweep], "val/accuracy", None, False)
    assert [line.rsplit("/", 1)[-1] for line in told["left_out"]] == ["bad: failed", "accuracy"] and told["groups"][0]["n"] == 4
    assert {"2 different commits", "files differed from their commit"} <= set(told["cautions"])


def test_many_groups_that_lack_the_same_seeds_are_told_in_a_line(tmp_path) -> None:
    for number in range(9):
        write(tmp_path, f"one{number}", float(number), 0, 0.9)
    for seed in (1, 2):
        write(tmp_path, f"again{seed}", 3.0, seed, 0.9)
    (caution,) = (line for line in comparison([tmp_path], "val/accuracy")["cautions"] if "seeds" in line)
    assert caution == "unmatched seeds: lr=0 and 7 other groups lack 1, 2"


def test_the_test_set_chooses_nothing_unasked(sweep) -> None:
    with pytest.raises(UserError, match="no honest result"):
        comparison([sweep], "test/accuracy", None, False)
    assert comparison([sweep], "test/accuracy", None, True)["on_test"]
    with pytest.raises(UserError, match=r"name one of: lr=0\.1; lr=0\.2"):
        comparison([sweep], "val/accuracy", "lr=7", False)


def test_all_formats_show_the_same_numbers(sweep) -> None:
    result = comparison([sweep], "val/loss", "lr=0.2", False)
    assert [row["name"] for row in result["groups"]] == ["lr=0.1", "lr=0.2"]  # the lower loss first
    numbers = [cell for row in cells(result)[1:] for cell in row]
    assert all(cell in as_csv(result) and cell in re.sub(r"\\(.)", r"\1", as_markdown(result)) for cell in numbers)
    done = call(sweep.parent, "-m", "resnet", "compare", sweep, "--metric", "val/loss", "--baseline", "lr=0.2")
    assert all(word in done.stdout for word in ("lr", "0.0725", "baseline"))
    assert json.loads(call(sweep.parent, "-m", "resnet", "compare", sweep, "--json").stdout)["groups"][0]["mean"] == pytest.approx(0.9275)
    assert "no run in it" in call(sweep.parent, "-m", "resnet", "compare", sweep / "nowhere", status=2).stderr


def test_a_run_without_a_held_out_split_has_no_held_out_value() -> None:
    run = Run("a", {"seed": 0}, {"status": "finished", "best": None, "test": {"accuracy": 0.9, "loss": 1.0}})
    assert run.value("val/accuracy") is None and run.value("test/accuracy") == 0.9


def test_filters_take_what_meets_all_conditions(sweep) -> None:
    runs = look_for_runs([sweep]).runs
    assert {run.config["lr"] for run in filter_runs(runs, "lr>0.1 seed<=2")} == {0.2} and len(filter_runs(runs, "lr>0.1 seed<=2")) == 3
    assert filter_runs(runs, "name>3") == []  # text against a number
    torch_sgd = Run("a", {"seed": 0, "optimizer._target_": "torch.optim.SGD"}, {})
    assert filter_runs([torch_sgd], "optimizer=sgd") and not filter_runs([torch_sgd], "optimizer!=sgd")
    assert filter_runs(runs, "lr<=1e-1") == filter_runs(runs, "lr=1e-1") == filter_runs(runs, "lr=0.1") != []
    with pytest.raises(UserError, match="did you mean epochs"):
        filter_runs(runs, "epoch=3")
    with pytest.raises(UserError, match="cannot be read"):
        filter_runs(runs, "lr~3")


def test_numbers_of_a_search_are_shown_in_six_digits_and_found_by_them(tmp_path) -> None:
    write(tmp_path, "grid", 0.1, 0, 0.91)
    write(tmp_path, "search", 0.0123456789012345, 0, 0.92)
    result = comparison([tmp_path], "val/accuracy", baseline="lr=0.0123457")
    assert result["baseline"] == "lr=0.0123457" and "0.01234567" not in as_markdown(result)
    runs = look_for_runs([tmp_path]).runs
    (found,) = filter_runs(runs, "lr=0.0123457")
    assert found.path.endswith("search") and [run.path for run in filter_runs(runs, "lr!=0.0123457")] == [str(tmp_path / "grid")]


def rewrite(run, **changes) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    changed = {key: {**config[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))


def test_a_group_is_a_config_whatever_it_was_written_as(tmp_path) -> None:
    """An older config lacks keys that have defaults, and 1 is 1.0; another data set is another group, at another root it is not."""
    for name, changes in {
        "old": {},
        "new": {"checkpoint": {"every_steps": None}},
        "whole": {"optimizer": {"lr": 1}, "lr": 1},
        "moved": {"data": {"root": "/elsewhere"}},
        "other": {"data": {"root": "/somewhere", "path": "other.npz"}},
    }.items():
        write(tmp_path, name, 1.0, ["old", "new", "whole", "moved", "other"].index(name), 0.9)
        rewrite(tmp_path / name, **changes)
    assert {group.name: len(group.values) for group in groups(tmp_path)} == {"data.path=null": 4, "data.path=other.npz": 1}


def test_what_other_programs_wrote_is_no_run(sweep) -> None:
    (sweep / "wandb" / "files").mkdir(parents=True)
    (sweep / "wandb" / "files" / "config.yaml").write_text("_wandb: {}")
    assert len(look_for_runs([sweep]).runs) == 8
    with pytest.raises(UserError, match="has no seed"):
        look_for_runs([sweep / "wandb" / "files"])


def test_a_loss_that_was_not_finite_on_the_way_is_left_out_of_the_curve(sweep) -> None:
    (sweep / "0.1-0" / "metrics.csv").write_text("step,val/loss\n1,0.5\n2,nan\n3,inf\n4,0.25\n")
    curves = {row["name"]: row["curve"] for row in comparison([sweep], "val/loss")["groups"]}
    assert curves["lr=0.1"] == [0.5, 0.25] and sparkline(curves["lr=0.1"]) == "█▁"


def test_the_best_of_many_equal_groups_is_rarely_told_apart_from_the_others(tmp_path) -> None:
    """In at most 5 % of such sweeps: the best one was chosen by the same values."""
    chance, wrong = random.Random(0), 0
    for _ in range(200):
        runs = [
            Run(
                f"{lr}{seed}",
                {"seed": seed, "lr": lr, "sweep.name": "s"},
                {"status": "finished", "best": {"val/accuracy": chance.gauss(0.9, 0.01)}},
            )
            for lr in range(8)
            for seed in range(3)
        ]
        result = as_data(compare_all([], runs, "val/accuracy"))
        wrong += not all(row["may_be_best"] for row in result["groups"])
    assert wrong <= 10


def test_grouped_by_a_key_all_else_is_averaged_over_and_paired(sweep) -> None:
    for seed, value in enumerate(ONE):
        write(sweep, f"wide-{seed}", 0.1, seed, value + 0.01, epochs=3)
        config = yaml.safe_load((sweep / f"wide-{seed}" / "config.yaml").read_text())
        (sweep / f"wide-{seed}" / "config.yaml").write_text(yaml.safe_dump({**config, "width": 32}))
    result = comparison([sweep], "val/accuracy", by=["lr"])
    first, second = result["groups"]
    assert (first["name"], first["n"], second["name"], second["n"]) == ("lr=0.1", 8, "lr=0.2", 4)
    assert first["mean"] == pytest.approx(sum(ONE) / 4 + 0.005) and first["deviation"] == pytest.approx(
        stats.tstd([*ONE, *(v + 0.01 for v in ONE)])
    )
    low, high = stats.ttest_ind(OTHER, [*ONE, *(value + 0.01 for value in ONE)], equal_var=False).confidence_interval(0.95)
    assert f"[{100 * low:+.2f}, {100 * high:+.2f}]: lower in this setup" in second["against_baseline"]
    assert result["unit_of_runs"] == "runs" and not any("seed=range" in str(row["seeds_to_settle"]) for row in result["groups"])
    assert "8 runs" in result["answer"] and any("lr=0.2 lacks" in line for line in result["cautions"])
    by_seed = comparison([sweep], "val/accuracy", by=["seed"])["groups"]
    assert sorted(row["name"] for row in by_seed) == [f"seed={seed}" for seed in range(4)] and all(row["n"] == 3 for row in by_seed)
    with pytest.raises(UserError, match="no run has the key ler"):
        comparison([sweep], "val/accuracy", by=["ler"])


def test_a_class_stands_for_the_settings_that_come_with_it() -> None:
    sgd, adam = {"_target_": "torch.optim.SGD", "momentum": 0.9}, {"_target_": "torch.optim.Adam", "betas": [0.9, 0.99]}
    flat = [{f"optimizer.{key}": value for key, value in settings.items()} for settings in (sgd, adam, {**sgd, "momentum": 0.5})]
    assert differing(flat[:2]) == [{"optimizer": "sgd"}, {"optimizer": "adam"}]
    names = [{"optimizer": "sgd", "optimizer.momentum": 0.9}, {"optimizer": "adam", "optimizer.momentum": "missing"}]
    assert differing(flat) == [*names, {"optimizer": "sgd", "optimizer.momentum": 0.5}]


def test_the_answer_names_the_best_and_how_sure_it_is(sweep) -> None:
    best = compare_runs([sweep], "val/accuracy", "lr=0.2")
    told = as_data(best)["answer"]
    assert told.startswith("lr=0.1 has the highest val/accuracy, 92.75 % (mean of 4 seeds); against the baseline, lr=0.2: +1.50 points")
    assert told.endswith("3 of 4 seeds higher: not resolved with 4 seeds.")
    assert best.changed(best.best) == "lr=0.2 -> 0.1"
    assert comparison([sweep], "val/accuracy")["answer"].endswith("(mean of 4 seeds). 1 of 1 others may be as good: not resolved from it.")
    for seed in range(4):
        write(sweep, f"far-{seed}", 0.3, seed, ONE[seed] - 0.3 + 0.001 * seed)
    assert "1 of 2 others may be as good" in comparison([sweep], "val/accuracy")["answer"]
    assert "lowest val/loss" in comparison([sweep], "val/loss")["answer"]


def test_sorted_by_a_key_and_in_latex(sweep) -> None:
    for seed in range(4):
        write(sweep, f"far-{seed}", 0.05, seed, ONE[seed] - 0.2 + 0.001 * seed)
    result = comparison([sweep], "val/accuracy", sort="lr")
    assert [row["differing"]["lr"] for row in result["groups"]] == ["0.05", "0.1", "0.2"]
    assert [row["may_be_best"] for row in result["groups"]] == [False, True, True]
    text = as_latex(result)
    assert text.count(r"\textbf") == 2 and r"\toprule" in text and "n = 4 seeds" in text and r"val/accuracy (\%)" in text
    with pytest.raises(UserError, match="choose one of lr"):
        comparison([sweep], "val/accuracy", sort="epochs")


def test_sparklines_run_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▄█" and len(sparkline(list(range(100)))) == 12 and sparkline([1.0]) == ""
