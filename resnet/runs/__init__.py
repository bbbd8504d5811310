"""The run directory, and what can be done with it."""
