"""Checkpoints: plain containers of tensors and numbers, read without running code, and only where every byte is as it was written."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch


class CheckpointError(Exception):
    """One line: the file, and what is wrong with it."""


def save(content: Mapping[str, Any], file: IO[bytes]) -> None:
    buffer = io.BytesIO()  # torch hides what a full disk answers
    torch.save(dict(content), buffer)
    file.write(buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """On the CPU.

    Raises:
        CheckpointError: the file is missing, cut short, changed, or holds more than plain containers and tensors.
    """
    _verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, KeyError, EOFError, AttributeError, TypeError, IndexError) as error:
        reason = "its pickle asks to run code" if "weights_only" in str(error).lower() else str(error).split("\n")[0]
        raise CheckpointError(f"{path}: no plain checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: no plain checkpoint (it holds a {type(content).__name__})")
    return content


def _verify(path: Path) -> None:
    """The checksums that torch writes and does not read: CRC-32 of each record of the zip file. Bounds what loading can allocate."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise CheckpointError(f"{path}: no checkpoint (it is no regular file)")
        with zipfile.ZipFile(path) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise CheckpointError(f"{path}: no plain checkpoint (it is compressed)")
            bad = archive.testzip()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not there") from None
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({getattr(error, 'strerror', None) or error})") from None
    if bad is not None:
        raise CheckpointError(f"{path}: damaged (the checksum of {bad} is wrong)")
