"""The form of a data set's images: their size, their channels, and how pictures of other shapes are made to fit."""

from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Form:
    """`fit`: crop cuts out the centre, pad adds black borders, squash changes the ratio of the sides."""

    size: Size
    channels: int
    fit: str = "crop"


def as_size(value: int | Sequence[int]) -> Size:
    """Returns the size that a config or a summary gives as one number, for a square, or as [height, width]."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def plain_size(size: Size) -> int | list[int]:
    """Returns a size as configs and summaries hold it: one number for a square."""
    height, width = size
    return height if height == width else [height, width]


def size_text(size: Size) -> str:
    height, width = size
    return f"{height}x{width}"


def pixels(size: Size) -> str:
    """Returns `8 pixels` for a square, else `8x4 pixels`."""
    return f"{size_text(size) if size[0] != size[1] else size[0]} pixels"
