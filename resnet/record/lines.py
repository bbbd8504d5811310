"""A run's messages in words, the same on the screen and in train.log."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from resnet.config.names import OUR_MODEL
from resnet.record.directory import shortest
from resnet.record.hints import own_search_path, without
from resnet.record.metrics import DEFAULT, is_share, others, show
from resnet.record.trackers import RunFacts

MOST_NAMED = 10  # classes


def header(facts: RunFacts) -> list[tuple[str, str]]:
    epochs = facts.steps / facts.steps_per_epoch
    return [
        ("run", facts.name),
        ("model", facts.model),
        (
            "size",
            f"{facts.parameters:,} parameters, {count(facts.flops)} operations an image (forward), {count(facts.memory)}B of memory a step",
        ),
        ("data", facts.data),
        ("training", f"{facts.steps:,} steps, {epochs:.4g} epochs of {facts.steps_per_epoch:,}"),
        ("device", facts.device),
        *(("note", note) for note in facts.notes),
        *([("continued", facts.continued)] if facts.continued else []),
    ]


def epoch_line(step: int, epoch: float, facts: RunFacts, metrics: dict[str, float]) -> str:
    """Returns the line for the end of an epoch."""
    parts = [
        f"epoch {epoch:.4g}/{facts.steps / facts.steps_per_epoch:.4g}",
        f"step {step:,}",
        f"train loss {metrics['train/loss']:.4f} acc {percent(metrics['train/accuracy'])}",
    ]
    if "val/loss" in metrics:
        more = "".join(
            f" {name} {show(metrics[f'val/{name}'], share)}" for name, share in facts.measured.items() if f"val/{name}" in metrics
        )
        parts.append(f"held-out loss {metrics['val/loss']:.4f} acc {percent(metrics['val/accuracy'])}{more}")
    parts.append(f"{metrics['images_per_second']:,.0f} images/s")
    return " | ".join([*parts, duration(metrics["seconds"])])


def closing(summary: dict[str, Any]) -> list[tuple[str, str]]:
    best = summary["best"]
    name = summary.get("choose_by", DEFAULT).removeprefix("val/")
    shown = show(best[f"val/{name}"], is_share(summary, name)) if best else ""
    chosen = f"held-out {name} {shown} at step {best['step']:,}" if best else "last step (nothing was held out)"
    return [
        ("test accuracy", percent(summary["test"]["accuracy"])),
        ("test loss", f"{summary['test']['loss']:.4f}"),
        *((f"test {name}", show(summary["test"][name], is_share(summary, name))) for name in others(summary)),
        *([("ended early", _early(early, name))] if (early := summary.get("ended_early")) else []),
        *([("warning", f"never predicted: {unpredicted(missed)}")] if (missed := summary.get("never_predicted")) else []),
        ("checkpoint", chosen),
        ("time", f"{duration(summary['seconds'])}, {summary['images_per_second']:,.0f} images/s in training"),
    ]


def _early(ended: Mapping[str, int], name: str) -> str:
    evaluations = f"{ended['evaluations']} evaluation{'s' * (ended['evaluations'] > 1)}"
    return f"at step {ended['step']:,} of {ended['of']:,}: {evaluations} without a better held-out {name} (early_stop)"


def unpredicted(classes: Sequence[Mapping[str, Any]]) -> str:
    """Names the classes that a model never predicts: `cat (12 images), dog (1 image)`."""
    shown = [f"{one['class']} ({one['images']:,} image{'s' * (one['images'] != 1)})" for one in classes[:MOST_NAMED]]
    more = len(classes) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def next_steps(facts: RunFacts, summary: dict[str, Any]) -> list[tuple[str, str]]:
    directory = shortest(facts.directory)
    places = own_search_path(sys.argv[1:])
    return [
        ("run directory", directory),
        *([("page", f"{directory}/report.html")] if (facts.directory / "report.html").exists() else []),
        *summary.get("links", {}).items(),
        ("what it can do", shlex.join(["python", "-m", "resnet", "evaluate", directory])),
        *(_experiments(facts, places) if places is not None else []),  # with a saved config these would be other runs in its folder
    ]


def _experiments(facts: RunFacts, places: list[str]) -> list[tuple[str, str]]:
    model, lr = facts.config["model"], facts.config["lr"]
    is_ours = model["_target_"] == OUR_MODEL  # only its user knows the settings of another model
    is_new = is_ours and model["weights"] is None  # weights fit only the network that they are of
    deeper = [f"model.layers={[number + 1 for number in model['layers']]}".replace(" ", "")] if is_new else []
    own = without(facts.overrides, "lr", "optimizer.lr", *(["model.layers"] if deeper else []))
    has_choice = is_new and model["stochastic_depth"] == 0 and model["residual_scale"] is None  # a plain network can have neither
    shortcuts = ["model.shortcut=none,projection_3x3"] if has_choice else []
    alike = without(facts.overrides, "seed", "fabric.devices", "fabric.num_nodes", *(["model.shortcut"] if shortcuts else []))
    return [
        ("try next", shlex.join(["python", "train.py", *places, *own, *deeper, f"lr={lr / 2:.6g}"])),
        ("", shlex.join(["python", "train.py", *places, "-m", *alike, *shortcuts, "seed=range(3)"])),
    ]


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min" if minutes else f"{seconds:.1f} s"


def count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
