"""Speed, side by side in one run: `make bench`. Every figure is the median of interleaved repetitions; ratios are within the run."""

import sys

import resnet  # noqa: F401  # before torch is imported: the programs that we are compared with have their threads wait as ours do
from resnet.interrupt import end_at_once

if sys.argv[0] == "-m":  # while Python looks for the module that it was asked to run: before the imports there that take seconds
    end_at_once()
