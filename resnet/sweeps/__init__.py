"""Sweeps: many runs of one command. Wraps around train.py's main()."""
