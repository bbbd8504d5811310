"""Run these with `python -m pytest lab`, from the folder that contains lab."""

from pathlib import Path

import torch
import torch.nn.functional as F
from lab.blocks import ScaledBlock
from lab.losses import PolyLoss

import resnet
from resnet.models.layers import Layers


def test_the_block_gives_what_comes_after_it_expects() -> None:
    block = ScaledBlock(16, 32, stride=2, layers=Layers())
    assert block(torch.randn(4, 16, 8, 8)).shape == (4, block.out_channels, 4, 4)


def test_without_epsilon_the_loss_is_cross_entropy() -> None:
    scores, labels = torch.randn(8, 10), torch.arange(8)
    torch.testing.assert_close(PolyLoss(epsilon=0)(scores, labels), F.cross_entropy(scores, labels, reduction="none"))


def test_the_experiment_trains(tmp_path: Path, monkeypatch) -> None:
    conf = Path(__file__).parent / "conf"
    monkeypatch.chdir(tmp_path)
    run = resnet.train(["experiment=lab", "max_steps=2", "limit_batches=1", "wandb=disabled"], config_dir=conf)
    assert run.summary["status"] == "finished"
