"""Residual networks: composed from one Hydra config, trained into one run directory, compared honestly."""

__version__ = "0.1.0"
