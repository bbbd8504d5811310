"""`python -m resnet COMMAND`: commands for a run after training, and before it."""

from resnet.interrupt import end_at_once

if __name__ == "__main__":
    end_at_once()  # before imports that take seconds

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from resnet.analysis import show, show_data
from resnet.analysis.options import add_explain, add_extras, add_features, extras_of, runs_and_overrides
from resnet.config import Config, RunFailed, RunInterrupted, UserError, load_config
from resnet.config.cli import CTRL_C, FAILED, MISTAKE, compose_config, say
from resnet.config.components import targets_in
from resnet.config.environment import wandb_settings
from resnet.config.launched import is_first_process
from resnet.config.targets import check_trusted, trusting_only
from resnet.plain import plain
from resnet.record.directory import DirectoryError
from resnet.streams import keep_going
from resnet.version import version

ABOUT = "What can be done with a run after training, and before it."
EXAMPLES = """examples:
  python -m resnet describe 'model.layers=[9,9,9]' data=digits
  python -m resnet check-data data=folder data.path=mine
  python -m resnet resume outputs/NAME
  python -m resnet evaluate outputs/NAME --split test
  python -m resnet predict outputs/NAME photo.jpg scans/
  python -m resnet explain outputs/NAME photo.jpg
  python -m resnet features outputs/NAME --output features.npz
  python -m resnet export outputs/NAME
  python -m resnet compare multirun/NAME
  python -m resnet draw outputs/NAME
  python -m resnet new lab
Each has --help, and --json for programs."""


def main() -> None:
    keep_going()
    arguments = _parser().parse_args()
    try:
        with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
            result = arguments.command(arguments)
    except (UserError, DirectoryError) as error:
        _end(MISTAKE, str(error))
    except OSError as error:
        _end(MISTAKE, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except RunFailed as error:
        _end(FAILED, str(error))
    except RunInterrupted as error:
        _end(error.status)
    except KeyboardInterrupt:
        _end(CTRL_C)
    if not is_first_process():
        return
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        arguments.show(result)
    sys.stdout.flush()
    if unread := [one["error"] for one in result if "error" in one] if isinstance(result, list) else []:
        _end(FAILED, "\n".join(unread))


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").removesuffix(", key=value")  # argparse lists it among the required arguments
        _end(MISTAKE, f"{message}; {self.prog} --help explains")


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version())
        parser.exit()


def _end(status: int, message: str = "") -> NoReturn:
    say(message)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m resnet", description=ABOUT, epilog=EXAMPLES, formatter_class=plain)
    parser.add_argument("--version", action=Version, nargs=0, help="show the versions of this package, torch and Python")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., Any], shown: Callable[..., None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text.replace("%", "%%"), description=text)  # argparse formats help, but not description
        added.set_defaults(command=command, show=shown)
        added.add_argument("--json", action="store_true", help="print JSON instead")
        return added

    def add_for_run(name: str, command: Callable[..., Any], shown: Callable[..., None], text: str) -> argparse.ArgumentParser:
        added = add(name, command, shown, text)
        if name == "evaluate":
            added.add_argument(
                "runs",
                nargs="+",
                metavar="RUN",
                help="a run directory, like outputs/NAME; several, or a sweep: an ensemble",
            )
        else:
            added.add_argument("run", type=Path, metavar="RUN", help="a run directory, like outputs/NAME")
        added.add_argument("--allow", action="append", default=[], metavar="MODULE", help="trust this module's classes in the run's config")
        if name != "resume":
            added.add_argument("--checkpoint", choices=("best", "last"), help="default: best where something was held out")
        return added

    describe = add("describe", _describe, show.description, "Stages, sizes, operations, data and seconds an epoch, without training.")
    describe.add_argument("overrides", nargs="*", metavar="key=value", help="as for train.py")
    describe.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of configs of your own, as for train.py")

    checked = add(
        "check-data", _check_data, show_data.checked_data, "Classes, unreadable files and duplicates of a data set, and a sheet of it."
    )
    checked.add_argument("overrides", nargs="*", metavar="key=value", help="as for train.py, like data=folder data.path=mine")
    checked.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of configs of your own, as for train.py")
    checked.add_argument("--out", type=Path, metavar="FOLDER", default=Path("check-data"), help="for the sheet (default: check-data)")

    resume = add_for_run(
        "resume", _resume, show.nothing, "Continue an interrupted or failed run; key=value changes what does not decide its result."
    )
    resume.add_argument("overrides", nargs="*", metavar="key=value", help="like epochs=20 or fabric.devices=2")

    evaluate = add_for_run("evaluate", _evaluate, show.evaluation, "Accuracy, loss, calibration and a row per class, with 95 % intervals.")
    evaluate.add_argument("--split", choices=("test", "val"), default="test", help="of the run's own data (default: test)")
    evaluate.add_argument(
        "--images", type=Path, metavar="PATH", help="your own instead: an .npz with x_test, y_test, or one folder a class"
    )
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="like data.root=/elsewhere")
    add_extras(evaluate)

    predict = add_for_run("predict", _predict, show.predictions, "Class and probabilities of image files, as CSV (or JSON).")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files or folders; any size, gray or colour")

    add_explain(add_for_run("explain", _explain, show.explanations, "Draw what in a picture speaks for a class, and the images like it."))
    add_features(add_for_run("features", _features, show.features, "The last layer's input as a file; k-NN and a linear probe on it."))

    export = add_for_run(
        "export", _export, show.exports, "Write model.onnx and model.safetensors, checked against the model on test images."
    )
    export.add_argument("--format", choices=("onnx", "safetensors", "all"), default="all")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="default: RUN/export")
    export.add_argument("overrides", nargs="*", metavar="key=value", help="like data.root=/elsewhere")
    compare = add(
        "compare", _compare, show.comparison, "Runs and sweeps side by side: groups of seeds, intervals, differences from a baseline."
    )
    compare.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="run directories, sweeps, or folders of them")
    compare.add_argument("--metric", help="val/accuracy, val/loss, val/METRIC, test/...; by default what chose the runs' checkpoints")
    compare.add_argument(
        "--baseline", metavar="KEY=VALUE", help="the group that the others are compared with (default: the one with the first settings)"
    )
    compare.add_argument("--on-test", action="store_true", help="rank by a test metric all the same")
    compare.add_argument("--filter", default="", metavar="CONDITIONS", help="like 'lr>0.1 optimizer=sgd': only the runs that meet them all")
    compare.add_argument("--sort", metavar="KEY", help="by this key instead of the mean")
    compare.add_argument(
        "--group-by", default="", metavar="KEYS", help="like 'lr optimizer': one group for each of their values, over all else"
    )
    compare.add_argument("--html", type=Path, metavar="FILE", help="write the page too: one file, with all runs, their curves and settings")
    compare.add_argument("--format", choices=("table", "csv", "markdown", "latex"), default="table")
    made = add("new", _new, show.files, "Write a small package to start from: a block, a loss and an experiment of your own, with tests.")
    made.add_argument("folder", type=Path, metavar="FOLDER", help="a new one, named as the package shall be, like lab")
    draw = add("draw", _draw, show.files, "Make the pictures and the page of runs again, and the page of sweeps, from their directories.")
    draw.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="run directories or folders of sweeps")
    return parser


def _compare(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.comparison import as_data, compare_runs

    by = arguments.group_by.split()
    chosen = arguments.metric, arguments.baseline, arguments.on_test, arguments.filter, arguments.sort, by
    comparison = compare_runs(arguments.paths, *chosen)
    result = as_data(comparison)
    if arguments.html:
        from resnet.analysis.page import write_report

        write_report(comparison, result, arguments.html)
    return {**result, "format": arguments.format, "page": arguments.html and str(arguments.html)}


def _new(arguments: argparse.Namespace) -> list[str]:
    from resnet.new import new

    return new(arguments.folder)


def _draw(arguments: argparse.Namespace) -> list[str]:
    from resnet.analysis.drawing import draw

    made, problems = draw(arguments.paths)
    if problems:
        show.files(made)
        raise UserError("\n".join(problems))
    return made


def _describe(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.describe import describe

    return describe(compose_config(arguments.overrides, arguments.config_dir))


def _check_data(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.check_data import check_data

    return check_data(compose_config(arguments.overrides, arguments.config_dir), arguments.out)


def _resume(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.saved import open_run
    from resnet.config.hashing import plain_values
    from resnet.record.hints import kept_overrides
    from resnet.record.wandb_record import is_at_home
    from resnet.run import run

    saved = open_run(arguments.run, ["data.download=false", *arguments.overrides], arguments.allow)
    kept, left_out = kept_overrides(saved.summary["overrides"], saved.summary.get("directory"), arguments.run)
    if left_out:
        print(plain(f"{arguments.run}: its overrides are told without {left_out}, which may be a stranger's; its config stands"))
    config = _with_own_wandb(saved.config, is_at_home(saved.summary, arguments.run), arguments)
    with trusting_only(arguments.allow):
        for key, target in targets_in(plain_values(saved.config), ""):
            check_trusted(f"{arguments.run}: {key.removeprefix('.')}={target}", target)
        run(config, arguments.run.resolve(), [*kept, *arguments.overrides])
    return saved.directory.summary


def _with_own_wandb(config: Config, is_at_home: bool, arguments: argparse.Namespace) -> Config:
    """Returns the config with its W&B settings. A run written here continues in its own W&B project. Any other run is recorded as if it
    started here, online only if asked.
    """
    overrides, settings = arguments.overrides, wandb_settings(arguments.overrides)
    wandb = config.wandb
    if not is_at_home:
        wandb = compose_config([text for text in overrides if text.startswith("wandb")]).wandb
        is_asked = any(text.partition("=")[0] in ("wandb", "wandb.mode") for text in overrides)
        if not is_asked and settings.get("mode", config.wandb.mode) != "offline":
            settings["mode"] = "disabled" if "disabled" in (settings.get("mode"), config.wandb.mode) else "offline"
        if config.wandb.mode == "online" and not is_asked:
            target = f"{config.wandb.entity or ''}/{config.wandb.project}"
            print(
                f"{arguments.run}: it was not written here: not sent to {target!r}, as its config says; wandb.mode=online sends it to you"
            )
    return load_config(asdict(replace(config, wandb=replace(wandb, **settings))))


def _evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.confusion import write_confusion
    from resnet.analysis.evaluate import evaluate
    from resnet.analysis.saved import open_run

    paths, overrides = runs_and_overrides(arguments.runs)
    runs = [open_run(path, overrides, arguments.allow) for path in paths]
    report = evaluate(runs, arguments.split, arguments.images, arguments.checkpoint, extras_of(arguments))
    return {**report, **write_confusion(report, runs[0].directory)}


def _predict(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from resnet.analysis.predict import predict
    from resnet.analysis.saved import open_run

    rows = predict(open_run(arguments.run, (), arguments.allow), arguments.images, arguments.checkpoint)
    for temperature in {row["temperature"] for row in rows if "temperature" in row}:
        print(f"probabilities are scaled by the temperature {temperature:.4g} that evaluate has saved", file=sys.stderr)
    if unlike := [row["file"] for row in rows if row.get("unlike")]:
        print(plain(f"unlike all that it was trained on, so their classes mean little: {', '.join(unlike)}"), file=sys.stderr)
    for reason in {row["unlike_unknown"] for row in rows if "unlike_unknown" in row}:
        print(plain(f"not known which images are unlike all that it was trained on: {reason}"), file=sys.stderr)
    return rows


def _explain(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from resnet.analysis.explaining import explain
    from resnet.analysis.saved import open_run

    return explain(
        open_run(arguments.run, (), arguments.allow),
        arguments.images,
        class_name=arguments.class_name,
        section=arguments.section,
        neighbours=arguments.nearest,
        which=arguments.checkpoint,
        folder=arguments.out,
    )


def _features(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.embed import embed
    from resnet.analysis.saved import open_run

    run = open_run(arguments.run, arguments.overrides, arguments.allow)
    return embed(run, arguments.images, arguments.output, arguments.checkpoint)


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    from resnet.analysis.export import export
    from resnet.analysis.saved import open_run

    kinds = ["onnx", "safetensors"] if arguments.format == "all" else [arguments.format]
    saved = open_run(arguments.run, arguments.overrides, arguments.allow)
    return export(saved, kinds, arguments.checkpoint, arguments.out or saved.directory / "export")


if __name__ == "__main__":
    main()
