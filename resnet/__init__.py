"""Residual networks: composed from one Hydra config, trained into one run directory, compared honestly."""

import os

__version__ = "0.1.0"

# Before torch is imported, which reads it then: how often a thread of GNU's OpenMP, which PyTorch has on Linux, looks for the next piece of
# work before it sleeps. By default 300,000 times: where two runs share a machine, each then waits on a core that the other one needs, and
# they take 2 to 20 times as long. With 1,000 one run alone is as fast as by default (`python -m benchmarks.beside`).
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

_API = ("load", "runs", "train")


def __getattr__(name: str) -> object:
    """The Python interface, imported where it is asked for: the commands need none of it to answer a mistake."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resnet import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
