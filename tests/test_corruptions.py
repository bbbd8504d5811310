"""Corruptions, by what each promises: the range, the order of severities, the same images again, and what is known of some."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet.analysis.corrupting import filters
from resnet.analysis.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from resnet.analysis.evaluate import evaluate
from resnet.analysis.extras import Extras
from resnet.analysis.saved import load_data, open_run

UNORDERED = {"glass_blur", "snow", "elastic_transform", "pixelate"}  # whose published settings are no order by distance
INDICES = np.arange(8)


def pictures(channels, side):
    """Smooth shapes with a little texture, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (torch.rand(8, channels, size, size, generator=generator) for size in (4, side // 2))
    whole = sum(
        share * F.interpolate(part, (side, side), mode="bicubic", align_corners=False) for share, part in ((0.7, coarse), (0.3, fine))
    )
    return (whole.clamp(0, 1) * 255).round().to(torch.uint8)


def distance(one, other):
    return (one.float() - other.float()).square().mean().sqrt().item() / 255


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 96)])
def test_severity_grows_and_the_form_stays(name, channels, side) -> None:
    images = pictures(channels, side)
    changed = [corrupted(images, name, severity, INDICES, 0) for severity in SEVERITIES]
    assert all(one.dtype == torch.uint8 and one.shape == images.shape for one in changed)
    distances = [distance(one, images) for one in changed]
    assert min(distances) > 0
    if name not in UNORDERED:
        assert distances == pytest.approx(sorted(distances), rel=0.05)
        assert distances[-1] > 1.1 * distances[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_every_batch(name) -> None:
    images = pictures(3, 32)
    whole = corrupted(images, name, 3, INDICES, 0)
    parts = torch.cat([corrupted(images[5:], name, 3, INDICES[5:], 0), corrupted(images[:5], name, 3, INDICES[:5], 0)])
    assert (parts.roll(5, 0).int() - whole.int()).abs().max() <= 1  # FFTs of other batches may round otherwise
    is_drawn = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert (distance(corrupted(images, name, 3, INDICES, 1), whole) > 0) == is_drawn


def test_noise_has_the_published_spread() -> None:
    gray = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = corrupted(gray, "gaussian_noise", 5, INDICES, 0).float() / 255
    assert float(noisy.std()) == pytest.approx(0.10, rel=0.02)
    salted = corrupted(gray, "impulse_noise", 5, INDICES, 0)
    assert float((salted != 128).float().mean()) == pytest.approx(0.07, rel=0.05)
    counted = corrupted(gray, "shot_noise", 5, INDICES, 0).float() / 255
    assert float(counted.var()) == pytest.approx(0.5 / 50, rel=0.05)  # Poisson: the variance of a count is its mean


def test_what_is_known_by_hand() -> None:
    colour = torch.tensor([40, 80, 120], dtype=torch.uint8)[None, :, None, None].expand(8, 3, 32, 32)
    brighter = corrupted(colour, "brightness", 2, INDICES, 0)[0, :, 0, 0].float()
    torch.testing.assert_close(brighter, torch.tensor([40.0, 80, 120]) * (120 + 25.5) / 120, atol=0.51, rtol=0)
    images = pictures(1, 32)
    means = images.float().mean((2, 3))
    flat = corrupted(images, "contrast", 5, INDICES, 0).float()
    torch.testing.assert_close(flat.mean((2, 3)), means, atol=0.5, rtol=0)
    assert float(flat.std()) < float(images.float().std())


def test_filters_are_convolutions() -> None:
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    kernels = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1))
    padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (1, 1)), mode="symmetric"))
    expected = torch.stack(
        [F.conv2d(one[:, None], kernel.flip(0, 1)[None, None])[:, 0] for one, kernel in zip(padded, kernels, strict=True)]
    )
    torch.testing.assert_close(filters.filtered(images, kernels), expected, atol=1e-5, rtol=1e-4)
    for kernel in (filters.disc(2.5, 0.5), *filters.streaks(torch.tensor([0.0, 45, -90]), 5, 2)):
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    across = filters.streaks(torch.tensor([0.0]), 3, 2)[0]
    assert (across.sum(1) > 0).sum() == 1 and (across.sum(0) > 0).sum() == 7  # a line along a row, of twice the radius and the middle
    torch.testing.assert_close(filters.zoomed(images, 1.0), images, atol=1e-5, rtol=1e-5)


def test_accuracy_under_corruptions_is_that_of_the_corrupted_images(small_runs) -> None:
    run, names = open_run(small_runs[0]), ["gaussian_noise", "contrast"]
    report = evaluate(run, extras=Extras(corruptions=names, limit=150, seed=3))
    found = report["corruptions"]
    assert list(found["by_name"]) == names and all(len(values) == 5 for values in found["by_name"].values())
    assert found["mean"] == pytest.approx(np.mean(list(found["by_name"].values())))
    assert found["by_name"]["contrast"][4] < report["accuracy"]["value"]
    again = evaluate(run, extras=Extras(corruptions=names[:1], limit=150, seed=3))
    assert again["corruptions"]["by_name"]["gaussian_noise"] == found["by_name"]["gaussian_noise"] and report["number"] == 150
    assert len(load_data(run).test) == 359
