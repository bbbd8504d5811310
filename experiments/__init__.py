"""Studies: each trains its sweeps and draws its figure and table from them: `python -m experiments`, `python -m experiments.NAME`."""

import sys

import resnet  # noqa: F401  # before torch is imported: it says how threads wait
from resnet.interrupt import end_at_once

if sys.argv[0] == "-m":  # while Python looks for the module that it was asked to run: before the imports there that take seconds
    end_at_once("; the same command goes on")
