"""The training loop and what it is handed: a learner, loaders, a plan, a tracker and a place for checkpoints."""
