"""Your own ideas for train.py: a block, a loss, and an experiment that uses both."""
