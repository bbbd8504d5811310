"""Where this program keeps what it can make again: the user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns the folder, which need not exist yet, or None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-lab"
    except RuntimeError:
        return None
