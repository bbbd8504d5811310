"""Everything that is imported from hydra._internal, because Hydra has no public way to it.

hydra.compose takes no search path from --config-dir and hides its repository of files. There is no public parser for Hydra's flags.
"""

import argparse
from types import SimpleNamespace
from typing import Any

from hydra._internal import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.utils import create_config_search_path, get_args_parser

__all__ = ["ConfigLoaderImpl", "ConfigRepository", "ConfigSearchPathImpl", "create_config_search_path", "get_args_parser"]


class Parser(argparse.ArgumentParser):
    """Accepts any `help` unchecked. Python 3.14's argparse refuses Hydra 1.3's, which is not a string (facebookresearch/hydra#3121).

    Hydra prints it itself, and builds the long help for shell completion only when needed.
    """

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        text = settings.pop("help", None)
        action = super().add_argument(*names, **settings)
        action.help = text
        return action


utils.argparse = SimpleNamespace(ArgumentParser=Parser)  # type: ignore[assignment,attr-defined]
