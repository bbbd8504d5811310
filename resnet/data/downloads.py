"""Downloads files once, completely or not at all, however many processes ask for them."""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from resnet.data.errors import DataError


def download_missing(name: str, kind: str, root: Path, download: bool, files: list[Path], where: str) -> None:
    missing = [file for file in files if not file.is_file()]
    if not missing:
        return
    advice = f"put {where}, or use data=digits, which needs no files"
    if not download:
        raise DataError(f"{missing[0]}: not found, and data.download=false; {advice}")
    from torchvision import datasets

    part, lock = root / f".{kind}.part", root / f".{kind}.lock"
    try:
        with FileLock(lock):  # several jobs of a sweep may download at once
            if not all(file.is_file() for file in files):
                print(f"Downloading {name} into {root} (once)", file=sys.stderr)
                download_into(root, part, lambda folder: getattr(datasets, kind)(str(folder), download=True))
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            lock.unlink()
        for folder in (part / kind / "raw", part / kind, part, root):
            with contextlib.suppress(OSError):
                folder.rmdir()  # removes what the attempt made, if empty
        raise DataError(f"{missing[0]}: not found, and torchvision's download of {name} failed ({one_line(error)}); {advice}") from None


def download_into(root: Path, part: Path, download: Callable[[Path], object]) -> None:
    """Downloads into a folder beside the target first, so that every file in the target is complete."""
    _quietly(lambda: download(part))
    for file in [path for path in part.rglob("*") if path.is_file()]:
        target = root / file.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(part)


def _quietly(call: Callable[[], object]) -> None:
    """Hides torchvision's lines about each mirror. Its progress bar stays, since it goes to standard error."""
    with contextlib.redirect_stdout(io.StringIO()):
        call()


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
