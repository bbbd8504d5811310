"""Where the images of a split come from: their files, and what a split of them depends on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Origins:
    """The files of a split, one for each image. `names` are relative to the data folder. Images of one group stay together."""

    paths: list[Path]
    names: list[str]
    digests: list[bytes]  # sha256
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: NDArray[np.int64]) -> "Origins":
        paths, names, digests = ([values[index] for index in indices] for values in (self.paths, self.names, self.digests))
        return Origins(paths, names, digests, self.groups and [self.groups[index] for index in indices])

    def draws(self, seed: int, purpose: str) -> NDArray[np.float64]:
        """Returns a random number in 0..1 for each image. It depends on the name and the content of the image, or on its group, and on
        nothing else, so that it stays the same when images are added or taken away.
        """
        if self.groups is not None:
            keys = [group.encode() for group in self.groups]
        else:
            keys = [name.encode("utf-8", "surrogateescape") + b"\0" + digest for name, digest in zip(self.names, self.digests, strict=True)]
        begin = f"{seed} {purpose}\0".encode()
        drawn = [int.from_bytes(hashlib.sha256(begin + key).digest()[:8], "big") for key in keys]
        return np.array(drawn, dtype=np.float64) / 2.0**64
