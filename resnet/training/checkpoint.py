"""Checkpoints: plain containers of tensors and numbers. They are loaded without running code, and only if their checksums match."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch


class CheckpointError(Exception):
    """A checkpoint cannot be used. The message is one line: the file, and what is wrong with it."""


def save(content: Mapping[str, Any], file: IO[bytes]) -> None:
    buffer = io.BytesIO()  # torch hides the error of a full disk, so save to memory first
    torch.save(dict(content), buffer)
    file.write(buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Loads a checkpoint onto the CPU.

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
    """Checks the CRC-32 of each record of the zip file, which torch writes and does not check. Also limits how much memory loading can
    take.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
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
