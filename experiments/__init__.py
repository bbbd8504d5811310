"""Claims put to the test, each by one command; see README.md."""

import resnet  # noqa: F401  # before torch is imported: it says how threads wait
