"""Speed, side by side in one run: `make bench`. Every figure is the median of interleaved repetitions; ratios are within the run."""
