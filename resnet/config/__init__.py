"""Turns what the user asked for into one typed, checked Config. Imports no torch."""

from resnet.config.errors import RunFailed, RunInterrupted, UserError
from resnet.config.hashing import config_hash, differing_keys
from resnet.config.load import load_config
from resnet.config.schema import Config

__all__ = ["Config", "RunFailed", "RunInterrupted", "UserError", "config_hash", "differing_keys", "load_config"]
