"""The metrics of an evaluation, and the one that selects the best checkpoint, by their names after val/ and test/."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from resnet.config.names import METRICS
from resnet.config.schema import Config
from resnet.config.suggest import nearest

ALWAYS = ("loss", "accuracy")  # measured in every run, without a component
READ: Mapping[str, Mapping[str, str]] = {  # direction and unit; other metrics state theirs in their class
    "loss": {"direction": "minimize", "unit": ""},
    "accuracy": {"direction": "maximize", "unit": "%"},
}


def metric_name(target: str) -> str:
    """lab.metrics.WorstClass -> worst_class"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", target.rpartition(".")[2]).lower()


def measured(config: Config) -> dict[str, Any]:
    """Returns the metrics besides loss and accuracy, as components. A built-in metric in `choose_by` is included."""
    named = {metric_name(settings["_target_"]): settings for settings in config.metrics}
    chosen = config.choose_by.removeprefix("val/")
    if chosen in METRICS and chosen not in named:
        named[chosen] = {"_target_": METRICS[chosen]}
    return {name: settings for name, settings in named.items() if name not in ALWAYS}


def wrong_metrics(config: Config) -> Iterator[str]:
    """Yields one line per mistake. The components in `config.metrics` must be checked before."""
    names = [metric_name(settings["_target_"]) for settings in config.metrics]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"metrics: {name} stands there twice; leave one out"
    if any(
        name == "loss" or (name == "accuracy" and one["_target_"] != METRICS[name]) for name, one in zip(names, config.metrics, strict=True)
    ):
        yield "metrics: every run has a loss and an accuracy; call your class something else"
    known = [f"val/{name}" for name in dict.fromkeys((*ALWAYS, *METRICS, *names))]
    if config.choose_by not in known:
        hint = "; a metric of your own stands in metrics too" if config.choose_by.startswith("val/") else ""
        yield f"choose_by={config.choose_by}: no such choice{nearest(config.choose_by, known)}; choose one of {', '.join(known)}{hint}"
