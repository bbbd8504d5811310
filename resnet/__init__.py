"""Residual networks: composed from one Hydra config, trained into one run directory, compared honestly."""
