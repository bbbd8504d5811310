"""The options of `python -m resnet evaluate`, `explain` and `features`, and how they are read."""

import argparse
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from resnet.config import UserError
from resnet.record.directory import FINISHED, RunDirectory, run_ids

if TYPE_CHECKING:  # it imports torch
    from resnet.analysis.extras import Extras

ALL = "all"


def add_extras(parser: argparse.ArgumentParser) -> None:
    more = parser.add_argument_group("what it also reports")
    more.add_argument("--average", default="", metavar="VIEWS", help="mean probability over views of each image: flip, shift or flip,shift")
    more.add_argument("--temperature", action="store_true", help="fit one on the held-out images, save it for predict and export")
    more.add_argument(
        "--corruptions", nargs="?", const=ALL, default="", metavar="NAMES", help="accuracy under noise, blur, weather, ... (default: all)"
    )
    more.add_argument("--attack", default="", metavar="NAMES", help="accuracy on adversarial images: fgsm, pgd or fgsm,pgd")
    more.add_argument("--eps", metavar="LIST", help="largest change of a pixel (default: 1/255,2/255,4/255,8/255)")
    more.add_argument("--steps", type=int, metavar="N", help="of pgd (default: 20)")
    more.add_argument("--limit", type=int, metavar="N", help="only N of the images, drawn at random")
    more.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn at random (default: 0)")


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files or folders; any size, gray or colour")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="what speaks for this class (default: the predicted one)")
    parser.add_argument("--section", metavar="NAME", help="part of the network whose maps are drawn, like stages.1 (default: the last)")
    parser.add_argument("--nearest", type=int, default=5, metavar="N", help="training images to show beside it (default: 5)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: RUN/explain")


def add_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="like data.root=/elsewhere")
    parser.add_argument(
        "--images", type=Path, nargs="+", default=[], metavar="PATH", help="judge by these: files or folders, one named as each class"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the features, labels and names of files into an .npz")


def extras_of(arguments: argparse.Namespace) -> "Extras":
    """Raises UserError for what cannot be read, or would have no effect."""
    from resnet.analysis.corruptions import CORRUPTIONS
    from resnet.analysis.extras import Extras

    attacks = _names(arguments.attack)
    for key, needed in (("eps", attacks), ("steps", "pgd" in attacks)):
        if getattr(arguments, key) is not None and not needed:
            raise UserError(f"--{key} is for attacks; add --attack pgd")
    given = {"eps": arguments.eps and _shares(arguments.eps), "steps": arguments.steps}
    return Extras(
        average=_names(arguments.average),
        temperature=arguments.temperature,
        corruptions=list(CORRUPTIONS) if arguments.corruptions == ALL else _names(arguments.corruptions),
        attacks=attacks,
        limit=arguments.limit,
        seed=arguments.seed,
        **{key: value for key, value in given.items() if value is not None},
    )


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name for name in text.split(",") if name))


def _shares(text: str) -> list[float]:
    try:
        return [float(Fraction(part)) for part in _names(text)]
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--eps {text}: fractions or numbers with commas between them are needed, like 2/255,4/255") from None


def runs_and_overrides(texts: list[str]) -> tuple[list[Path], list[str]]:
    """Divides the positional arguments: `key=value` is an override, unless there is a folder of that name."""
    overrides = [text for text in texts if "=" in text and not Path(text).is_dir()]
    runs = [run for text in texts if text not in overrides for run in _runs_in(Path(text))]
    if not runs:
        raise UserError(f"{overrides[0]}: a run directory is needed before it, like outputs/NAME")
    return runs, overrides


def _runs_in(path: Path) -> list[Path]:
    """Returns the finished runs of a sweep's folder, or the path itself."""
    if RunDirectory(path).exists:
        return [path]
    return [path / name for name in run_ids(path) if RunDirectory(path / name).status == FINISHED] or [path]
