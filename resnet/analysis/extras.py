"""What `evaluate` may be asked for besides the scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet.analysis.attacks import ATTACKS, EPS, STEPS
from resnet.analysis.averaging import VIEWS
from resnet.analysis.corruptions import CORRUPTIONS
from resnet.config import UserError


@dataclass(frozen=True, kw_only=True)
class Extras:
    average: Sequence[str] = ()  # views over which each answer is averaged
    temperature: bool = False  # fit one on the held-out images
    corruptions: Sequence[str] = ()
    attacks: Sequence[str] = ()
    eps: Sequence[float] = EPS  # largest change of a pixel by an attack, in 0..1
    steps: int = STEPS  # of PGD
    limit: int | None = None  # images, drawn at random; None: all
    seed: int = 0  # of all that is drawn at random


PLAIN = Extras()


def check_extras(extras: Extras, num_runs: int, split: str | None) -> None:
    """Raises UserError if they do not fit together, or the runs. `split`: the one that is evaluated; None for own images."""
    for key, names, known in (
        ("average", extras.average, VIEWS),
        ("corruptions", extras.corruptions, CORRUPTIONS),
        ("attack", extras.attacks, ATTACKS),
    ):
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{key}={unknown[0]}: no such choice; choose of {', '.join(known)}")
    if extras.limit is not None and extras.limit < 1:
        raise UserError(f"limit={extras.limit}: at least one image is needed")
    if extras.seed < 0:
        raise UserError(f"seed={extras.seed}: out of range; it must be at least 0")
    if extras.temperature and split == "val":
        raise UserError("temperature: it is fitted on the held-out images; see on others what it does (split test, or images of your own)")
    if extras.attacks:
        _check_attacks(extras, num_runs)


def _check_attacks(extras: Extras, num_runs: int) -> None:
    if num_runs > 1 or extras.average:
        raise UserError("attack: it follows the gradient of one model; give a single run, without average")
    if wrong := [size for size in extras.eps or [0.0] if not 0 < size <= 1]:
        raise UserError(f"eps={wrong[0]:g}: a share of a pixel's range is needed, above 0 and at most 1, like 8/255")
    if extras.steps < 1:
        raise UserError(f"steps={extras.steps}: at least one is needed")
