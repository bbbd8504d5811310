"""Checkpoints: plain containers, written whole or not at all, read without running code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

Write = Callable[[str, Callable[[IO[bytes]], Any]], None]


def save(write: Write, name: str, content: Mapping[str, Any]) -> None:
    """`write` puts a file in its place in one step."""
    write(name, lambda file: torch.save(dict(content), file))


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
