"""What is computed of the training images before the first step, and what is odd about them."""

import numpy as np
import pytest
import torch

from resnet.data import Split
from resnet.data import statistics as stats
from resnet.data.files import Mapped
from resnet.data.statistics import channel_statistics, class_notes


def test_mean_and_deviation_are_exact_in_memory_and_those_of_a_sample_elsewhere(monkeypatch) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, 3, 5, 4)).astype(np.uint8))
    mean, std, notes = channel_statistics(images)
    expected = images.double() / 255
    assert mean == pytest.approx(expected.mean((0, 2, 3)).tolist()) and std == pytest.approx(expected.std((0, 2, 3), correction=0).tolist())
    assert notes == []
    monkeypatch.setattr(stats, "SAMPLE", 100)
    mapped = Mapped(images, torch.arange(300))
    fetched = []
    monkeypatch.setattr(mapped.__class__, "decode", lambda self, index: fetched.append(index) or self.images[self.rows[index]])
    about, _, (note,) = channel_statistics(mapped)
    assert len(fetched) == 100 and about == pytest.approx(mean, abs=0.03) and "those of 100 of 300 training images" in note


def test_a_channel_without_spread_is_an_alarm_and_divides_by_nothing() -> None:
    images = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)
    images[:, 1] = torch.arange(10, dtype=torch.uint8)[:, None, None]
    _, std, (note,) = channel_statistics(images)
    assert note == "warning: channel 0, 2 has the same value in all training images" and std[0] == std[2] == 1


def test_missing_and_uneven_classes_are_told() -> None:
    train, test = (Split(torch.zeros(len(labels), 1, 2, 2), torch.tensor(labels)) for labels in ([0] * 40 + [1] * 4, [0, 0]))
    missing, uneven = class_notes({"train": train, "val": None, "test": test}, ["cat", "dog"])
    assert missing.startswith("warning: no test image of dog") and "from 4 (dog) to 40 (cat) training images per class" in uneven
