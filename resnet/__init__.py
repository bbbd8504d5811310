"""Residual networks: configured by Hydra, trained into a run directory, compared with intervals."""

import os

__version__ = "0.1.0"

# Must be set before torch is imported, which reads it then. It sets how often an idle thread of GNU's OpenMP, which PyTorch uses on Linux,
# looks for work before it sleeps. The default is 300,000 times: if two runs share a machine, each then occupies cores that the other one
# needs, and they take 2 to 20 times as long. With 1,000, a single run is as fast as with the default (`python -m benchmarks.beside`).
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

_API = ("evaluate", "explain", "features", "load", "runs", "train")


def __getattr__(name: str) -> object:
    """Imports the Python interface on first use: the commands do not need it to report a mistake."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resnet import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
