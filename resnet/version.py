"""Returns the version line that a bug report should begin with."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import resnet


def version() -> str:
    """Imports none of the packages."""
    parts = [f"resnet-lab {resnet.__version__}{_commit()}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *map(_installed, ("torch", "torchvision", "lightning-fabric", "hydra-core"))])


def _installed(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"no {package}"


def _commit() -> str:
    """Returns the commit, or an empty string outside a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed inside another checkout
        return ""
    try:
        answer = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" (commit {answer.stdout.strip()})"
