"""Work on finished runs: open, evaluate, export, compare and draw them."""
