"""The memory of a step is told before it is used."""

import pytest
import torch
from conftest import call, compose

from resnet import memory
from resnet.build_data import build_data, check_size
from resnet.build_model import build_model, trial
from resnet.memory import step_bytes, told_of_memory


def needed(*overrides: str) -> int:
    config = compose("data=digits", *overrides)
    data = build_data(config)
    return step_bytes(config, *trial(config, data, check_size(config, data)))


def test_what_a_step_needs_grows_with_its_parts() -> None:
    one = needed("batch_size=64")
    parameters = 4 * 4 * sum(parameter.numel() for parameter in build_model(compose("data=digits"), 1, 10).parameters())
    assert needed("batch_size=128") - parameters == pytest.approx(2 * (one - parameters), rel=0.01)
    assert needed("batch_size=128", "accumulate=2") == pytest.approx(one, rel=0.01)
    assert needed("model.width=32") > 1.8 * needed("model.width=16")


def test_it_is_what_autograd_keeps() -> None:
    """Three layers whose inputs must be kept: 4 bytes for each value of the images and of two hidden layers."""
    model = "resnet.models.resnet.ResNet"
    images, width = 100, 16
    found = needed(f"batch_size={images}", f"model._target_={model}", "model.layers=[1]", "model.norm=none", "model.activation=silu")
    # The images, then before and after each of three activations; after the last one, pooled values and scores are small.
    lower = 4 * images * 64 * (1 + width * 5)
    assert lower < found < 1.5 * lower


def test_too_little_memory_is_told_before_training(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**6)
    assert told_of_memory(10**6, torch.device("cpu")) == []
    (note,) = told_of_memory(2 * 10**9, torch.device("cpu"))
    assert "a step needs about 2.0 GB of memory" in note and "\n" not in note


def test_describe_and_the_header_tell_it(tmp_path) -> None:
    assert "B of memory a step" in call(tmp_path, "-m", "resnet", "describe", "data=digits").stdout
