"""What the numeric tests are repeated under computes other numbers; the tolerances let rounding pass and little else."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import OLDER_PROCESSOR
from rounding import assert_same_scores, near_ties, tolerance

from resnet.models import ResNet

# Bytes of a convolution, a matrix product, a softmax, and a training step's gradient.
COMPUTE = """
import hashlib, torch
torch.manual_seed(0)
images, left = torch.randn(8, 16, 9, 9).to(memory_format=torch.channels_last), torch.randn(50, 70)
weight = torch.randn(16, 16, 3, 3, requires_grad=True)
maps = torch.nn.functional.conv2d(images, weight, padding=1)
torch.nn.functional.cross_entropy(maps.mean((2, 3)), torch.arange(8)).backward()
for result in (maps.detach(), left @ left.T, left.softmax(1), weight.grad):
    print(hashlib.sha256(result.contiguous().numpy().tobytes()).hexdigest())
print(torch.backends.cpu.get_cpu_capability(), torch.backends.mkl.is_available())
"""


def computed(**environment: str) -> list[str]:
    kept = {key: value for key, value in os.environ.items() if key not in OLDER_PROCESSOR}
    command = [sys.executable, "-c", COMPUTE]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
def test_as_an_older_processor_all_that_is_computed_rounds_otherwise() -> None:
    *here, processor = computed()
    if not processor.startswith("AVX") or not processor.endswith("True"):
        pytest.skip(f"this processor or PyTorch ({processor}) has one way to compute, which these variables do not change")
    *older, name = computed(**OLDER_PROCESSOR)
    assert [one == other for one, other in zip(here, older, strict=True)] == [False] * 4
    assert name == "DEFAULT True"


@pytest.mark.numeric
def test_the_option_takes_hold_in_this_process(request) -> None:
    if request.config.getoption("older_processor"):
        assert torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX")


def test_only_ties_within_the_tolerance_may_turn() -> None:
    scores = torch.tensor([[5.0, 4.0, 0.0], [4.0, 3.999, 0.0], [0.0, 10.0, 9.9], [2.0, 2.0, 0.0]])
    assert [near_ties(scores, allowed) for allowed in (1e-6, 1e-4, 6e-3, 0.1)] == [1, 2, 3, 4]


def test_a_single_image_that_is_wrong_is_seen() -> None:
    model = ResNet(1, 10, layers=[3, 3, 3])
    scores = torch.randn(100, 10)
    assert_same_scores(scores * (1 + 1e-7), scores, model)
    wrong = scores.clone()
    wrong[7, 3] += 1e-3
    with pytest.raises(AssertionError):
        assert_same_scores(wrong, scores, model)
    assert tolerance(model) < 1e-4
