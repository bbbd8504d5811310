"""What a run writes down while it goes on: its directory, identity, code and data, the screen, Weights & Biases."""
