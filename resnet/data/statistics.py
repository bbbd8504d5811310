"""Mean and standard deviation of pixels, and what is odd about the classes of a split data set."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from resnet.data.files import OnDemand
from resnet.data.sources import Split

SAMPLE = 2000  # images that are fetched on demand for the statistics
AT_ONCE = 2**26  # pixels
FEW, IMBALANCE = 5, 10  # classes named in a note; ratio of the largest class to the smallest from which it is told


def channel_statistics(images: Tensor | OnDemand) -> tuple[list[float], list[float], list[str]]:
    """Returns mean and standard deviation of each channel, for pixels in 0..1, and notes.

    They are exact, from the counts of the 256 values. Of images that are fetched on demand an even sample is taken.
    """
    sample, notes = images, list[str]()
    if not isinstance(images, Tensor) and len(images) > SAMPLE:
        sample = images[torch.linspace(0, len(images) - 1, SAMPLE).long()]
        notes.append(f"mean and standard deviation are those of {SAMPLE:,} of {len(images):,} training images, evenly spread")
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for batch in _in_batches(sample):
        for channel, values in enumerate(batch.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    share = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    if flat := [str(channel) for channel, spread in enumerate(std.tolist()) if spread == 0]:
        notes.append(f"warning: channel {', '.join(flat)} has the same value in all training images")
    std = torch.where(std > 0, std, 1.0)  # a constant channel is only shifted to zero
    return mean.tolist(), std.tolist(), notes


def _in_batches(images: Tensor | OnDemand) -> Iterator[Tensor]:
    if isinstance(images, Tensor):
        yield from images.split(max(AT_ONCE // images[0].numel(), 1))
    else:
        for index in range(len(images)):
            yield images.decode(index)[None]


def class_notes(splits: Mapping[str, Split | None], classes: Sequence[str]) -> list[str]:
    """Tells of classes that a part lacks, and of classes of very different sizes."""
    counts = {part: torch.bincount(split.labels, minlength=len(classes)).tolist() for part, split in splits.items() if split is not None}
    notes = []
    for part, numbers in counts.items():
        if missing := [name for name, number in zip(classes, numbers, strict=True) if not number]:
            named = f"{', '.join(missing[:FEW])}{f' and {len(missing) - FEW} more' if len(missing) > FEW else ''}"
            notes.append(f"warning: no {part} image of {named}; what the {part} images tell leaves out {_those(missing)}")
    present = [(number, name) for number, name in zip(counts["train"], classes, strict=True) if number]
    (fewest, least), (most, largest) = min(present), max(present)
    if most >= IMBALANCE * fewest:
        notes.append(
            f"from {fewest:,} ({least}) to {most:,} ({largest}) training images per class: see choose_by=val/balanced_accuracy, and "
            "loss.class_weights=balanced or data.balance=true"
        )
    return notes


def _those(missing: Sequence[str]) -> str:
    return "this class" if len(missing) == 1 else "these classes"
