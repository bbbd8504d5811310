"""Finds the W&B record that belongs to a run directory. Everything in summary.json is checked first, because anybody may have written
it."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FOLDER = re.compile(rf"offline-run-\d+_\d+-({ID.pattern})")
MARKERS = ".run_directories"  # in W&B's folder: one file per id, with the path of the run directory that owns it


def is_at_home(summary: dict[str, Any], directory: Path) -> bool:
    """True if the run is where it was written, so it has not been copied, moved or handed over since."""
    return bool(summary.get("directory") == str(directory.resolve()))


def identity(before: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Returns the summary's keys of the run's record: those from before, or new ones if there are none or the run is a copy."""
    known = before if is_at_home(before, directory) else {}
    return {
        "wandb_run": _run_id(known.get("wandb_run")),
        "wandb_folder": known.get("wandb_folder"),
        "directory": str(directory.resolve()),
    }


def told_of(before: dict[str, Any], directory: Path) -> str | None:
    """Returns a message for a run that is continued in another place than it was written, else None."""
    if not before or is_at_home(before, directory):
        return None
    origin = f"it was written to {before['directory']!r}" if before.get("directory") else "nothing says where it was written"
    return f"{origin}: this run gets a W&B record of its own, and the one of before is left as it is"


def _run_id(saved_id: Any) -> str:
    """Returns the id of the W&B run. W&B's agent sets one itself and accepts no other."""
    given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return next((text for text in (given, saved_id) if isinstance(text, str) and ID.fullmatch(text)), secrets.token_hex(4))


def claim(folder: Path, wandb_run: str, directory: Path) -> bool:
    """Notes in W&B's folder, before the record exists, which directory owns it. Returns False if the id belongs to another directory."""
    if not (owner := _owner(folder, wandb_run)):
        if any(path.name.endswith(f"-{wandb_run}") for path in folder.iterdir()):
            return False
        (folder / MARKERS).mkdir(exist_ok=True)
        (folder / MARKERS / wandb_run).write_text(f"{directory.resolve()}\n", encoding="utf-8")
    return owner in ("", f"{directory.resolve()}\n")


def _owner(folder: Path, wandb_run: str) -> str:
    with suppress(OSError, UnicodeDecodeError):
        marker = folder / MARKERS / wandb_run
        if not marker.is_symlink() and marker.is_file() and marker.stat().st_size < 10_000:
            return marker.read_text(encoding="utf-8")
    return ""


def own_folders(summary: dict[str, Any], directory: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields the offline records that provably belong to a run: the one that its summary names, and those in W&B's current folder."""
    folder_written = summary.get("wandb_folder")
    near = folder.iterdir() if folder is not None and folder.is_dir() else ()
    for path in {*near, *([Path(folder_written)] if isinstance(folder_written, str) and "\0" not in folder_written else [])}:
        if _is_own(path, summary.get("wandb_run"), directory):
            yield path


def remove_own(summary: dict[str, Any], directory: Path, folder: Path) -> None:
    for path in own_folders(summary, directory, folder):
        aside = path.with_name(f".removed-{path.name}")  # atomic: W&B's service, just killed, may still write into it
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _is_own(path: Path, wandb_run: Any, directory: Path) -> bool:
    match = FOLDER.fullmatch(path.name)
    if not match or match[1] != wandb_run or path.parent.name not in ("wandb", ".wandb") or path.is_symlink() or not path.is_dir():
        return False
    return _owner(path.parent, match[1]) == f"{directory.resolve()}\n"
