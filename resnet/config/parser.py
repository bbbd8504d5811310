"""Hydra 1.3's argument parser on Python 3.14, whose argparse refuses help that is no text (facebookresearch/hydra#3121)."""

import argparse
from types import SimpleNamespace
from typing import Any

from hydra._internal import utils


class Parser(argparse.ArgumentParser):
    """Takes any help unseen: Hydra shows it by itself, and makes the long one on shell completion only then."""

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        text = settings.pop("help", None)
        action = super().add_argument(*names, **settings)
        action.help = text
        return action


utils.argparse = SimpleNamespace(ArgumentParser=Parser)  # type: ignore[assignment,attr-defined]
