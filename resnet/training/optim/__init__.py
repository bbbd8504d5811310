"""Optimizers and learning-rate schedules of our own."""
