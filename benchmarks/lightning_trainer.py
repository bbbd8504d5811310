"""The same network and images under Lightning's Trainer with torchvision's transforms in a DataLoader: what a user would pick instead.

Needs the extra `bench`.
"""

import argparse
import time

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.article import ResNet, training_images


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = ResNet()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)


class Times(lightning.Callback):
    """Prints the time at the first step and at the last."""

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        if trainer.global_step in (1, trainer.max_steps):
            print(f"\nstep {trainer.global_step} at {time.time():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data")
    parser.add_argument("--steps", type=int, default=200)
    chosen = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    loader = DataLoader(training_images(chosen.data), batch_size=32, shuffle=True, num_workers=2, persistent_workers=True)
    trainer = lightning.Trainer(max_steps=chosen.steps, logger=CSVLogger("."), callbacks=[Times()], log_every_n_steps=20)
    trainer.fit(Classifier(), loader)


if __name__ == "__main__":
    main()
