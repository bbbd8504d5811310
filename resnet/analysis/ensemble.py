"""Several runs that answer together, such as the seeds of a group."""

from collections.abc import Sequence

import torch
from torch import Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.averaging import mean_prediction
from resnet.analysis.saved import SavedRun
from resnet.config import UserError
from resnet.data import Split
from resnet.record.content import PARTS


class Ensemble:
    """One or several models that answer together: the mean of their predicted probabilities (Lakshminarayanan et al. 2017)."""

    def __init__(self, members: Sequence[Answering]) -> None:
        self.members = members

    def logits(self, images: Split) -> Tensor:
        """Returns the logits of a single model, else the logarithm of the mean probability, (N, K)."""
        return self.combined(self.each(images))

    def each(self, images: Split) -> list[Tensor]:
        """Returns the logits of each member."""
        return [member.logits(images) for member in self.members]

    @staticmethod
    def combined(logits: Sequence[Tensor]) -> Tensor:
        return logits[0] if len(logits) == 1 else mean_prediction(torch.stack(list(logits)))


def check_alike(runs: Sequence[SavedRun], splits: Sequence[str]) -> None:
    """Raises UserError if the runs have other classes, images of another shape, or other images in one of the splits."""
    first = runs[0]
    for run in runs[1:]:
        both = f"{run.directory.path}: an ensemble needs the %s of {first.directory.path}; "
        if run.classes != first.classes:
            raise UserError(f"{both % 'classes'}it has {', '.join(run.classes[:5])}, ...; leave it out")
        shapes = [(one.channels, *one.size) for one in (run, first)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{both % 'shape of images'}its images are {shapes[0]}, not {shapes[1]}; leave it out")
        theirs, ours = (one.summary["data"].get("digests", {}) for one in (run, first))
        for split in splits:
            if split in theirs and split in ours and theirs[split] != ours[split]:
                raise UserError(f"{both % PARTS[split]}its own differ, so it may have been trained on some of them; leave it out")
