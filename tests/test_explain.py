"""A mistake is told from what was typed: another version of Hydra, with other sentences, gives the same line."""

import pytest
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, MissingConfigException

from resnet.config.compose import Composer
from resnet.config.explain import explain
from resnet.sweeps.grid import read_sweep

TOLD = [
    ("lr=0.1 modl.layers=[1]", "modl.layers: unknown key (did you mean model.layers?)"),
    ("+lr=1", "+lr: it is there already; write it without the +"),
    ("~lr=3", "~lr: its value is 0.2; write ~lr alone"),
    ("lr@x=3", "lr@x=3: lr is no group, and @ is for groups; write lr=VALUE"),
    ("model.layers={a:1}", "model.layers={a:1}: a list is needed"),
    ("model.layers.foo=3", "model.layers.foo=3: model.layers is a list of 3, whose places count from 0"),
    ("~optimizer=adam", "~optimizer=adam: it is not chosen, so it cannot be taken away"),
    ("lr=1 +optimizer=adam", "optimizer: given twice"),
    ("optimizer=5", "optimizer=5: no such option; choose one of adam"),
    ("seed=1,2", "seed=1,2: several values; add -m"),
    ("hydra.job.env_set.A=1", "write +hydra.job.env_set.A=VALUE"),
]


@pytest.mark.parametrize(("given", "told"), TOLD)
def test_hydras_sentences_do_not_matter(given, told) -> None:
    assert told in explain(ConfigCompositionException("in other words"), Composer(), given.split())


def test_a_missing_option_is_told_by_its_file() -> None:
    error = MissingConfigException("in other words", "hydra/sweeper/sampler/tpee")
    told = explain(error, Composer(), ["hydra/sweeper=search", "hydra/sweeper/sampler=tpee"])
    assert told.startswith("hydra/sweeper/sampler=tpee (in hydra/sweeper/optuna): no such option (did you mean tpe?)")


def test_what_cannot_be_told_keeps_its_words() -> None:
    assert explain(ConfigCompositionException("in other words\nand more"), Composer(), ["lr=0.1"]) == "in other words"


def test_one_file_imports_what_is_hydras_own() -> None:
    files = [file.name for file in (ROOT / "resnet").rglob("*.py") if "from hydra._internal" in file.read_text("utf-8")]
    assert files == ["internals.py"]


@pytest.mark.parametrize(
    "grid", [["seed=2,1", "lr=0.1"], ["optimizer=sgd,adam", "seed=range(3)", "lr=choice(1,2)"], ["seed=1,2", "seed=3"]]
)
def test_a_grid_has_the_jobs_of_hydras_sweeper(grid) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (theirs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(grid), None)
    assert read_sweep(["-m", *grid]).overrides == theirs
