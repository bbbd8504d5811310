"""A trained model that answers: class scores for images in the form of the data set."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from resnet.analysis.averaging import Averaged
from resnet.analysis.saved import SavedRun, load_model
from resnet.build import build_objective
from resnet.build_data import build_eval_loader
from resnet.build_fabric import build_fabric
from resnet.config import UserError
from resnet.config.targets import trusting_only
from resnet.data import DataSet, Loader, Split
from resnet.training.learner import Scores, evaluate
from resnet.training.objective import Objective


class Answering:
    """The model of a run on its device, in eval mode. `views`: averages its predictions over these views of each image."""

    def __init__(self, run: SavedRun, which: str | None = None, views: Sequence[str] = ()) -> None:
        accelerator = "cpu" if run.config.fabric.accelerator == "cpu" else "auto"  # the GPU of training may be missing here
        fabric_settings = replace(run.config.fabric, accelerator=accelerator, devices=1, num_nodes=1, strategy="auto")
        self.run, self.views = run, views
        self.config = replace(run.config, limit_batches=None, fabric=fabric_settings)
        self.fabric = build_fabric(self.config)
        self.network, self.file, self.step = load_model(run, which)
        if self.config.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        wrapped = self.fabric.setup_module(self.network)
        self.model: nn.Module = Averaged(wrapped, views) if views else wrapped

    def loader(self, images: Split) -> Loader:
        """Gives the images as the model takes them: cut to its size, normalised, on its device."""
        known = self.run.summary["data"]
        data = DataSet(train=images, val=None, test=images, classes=self.run.classes, mean=known["mean"], std=known["std"])
        return build_eval_loader(self.config, data, images, self.fabric, self.run.model_size)

    def scores(self, images: Split, with_loss: bool = False) -> Scores:
        """Returns logits, accuracy and, if asked for, the run's own loss. Raises UserError if a logit is not finite."""
        objective = _objective(self.run, self.fabric.device) if with_loss else None
        scores = evaluate(self.fabric, self.model, objective, self.loader(images).epoch(), keep_logits=True)
        if scores.logits is None or not scores.logits.isfinite().all():
            where = self.run.directory / self.file
            raise UserError(f"{where}: its answers are no finite numbers; the weights are damaged, or their training diverged")
        return scores

    def logits(self, images: Split) -> Tensor:
        """Returns the logits (N, K)."""
        logits = self.scores(images).logits
        assert logits is not None
        return logits

    def differentiable(self, images: Tensor) -> Tensor:
        """Returns the logits (N, K) of normalised images with their gradient."""
        with self.fabric.autocast():
            return self.network(images.to(next(self.network.parameters()).dtype)).float()  # type: ignore[no-any-return]


def _objective(run: SavedRun, device: torch.device) -> Objective | None:
    """Returns the run's own loss, or None if it needs a teacher that no longer exists."""
    known = run.summary["data"]
    offered = {name: known.get(name) for name in ("class_counts", "image_size", "mean", "std")}
    try:
        with trusting_only(run.allowed):
            return build_objective(run.config, device, in_channels=run.channels, num_classes=len(run.classes), **offered)
    except UserError as error:
        if str(error).startswith("loss.teacher"):
            return None
        raise
