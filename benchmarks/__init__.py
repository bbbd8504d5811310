"""Speed, side by side in one run: `make bench`. Every figure is the median of interleaved repetitions; ratios are within the run."""

import resnet  # noqa: F401  # before torch is imported: the programs that we are compared with have their threads wait as ours do
