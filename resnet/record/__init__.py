"""What a run records while it goes on: its directory, identity, code and data, the screen, and Weights & Biases."""
