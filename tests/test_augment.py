"""Batched augmentation against torchvision's on the same parameters."""

from statistics import mean, pvariance
from typing import Any

import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as F

from resnet.data import transforms as augment
from resnet.data.augment import Affine, Crop, CutMix, Cutout, Flip, Mixup
from resnet.data.pipeline import Augment


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (6, 3, 10, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_pad_and_crop(images: torch.Tensor, mode: str) -> None:
    top, left = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([4, 3, 2, 1, 0, 0])
    ours = augment.crop(augment.pad(images, 2, mode), top, left, (10, 10))
    theirs = [F.crop(F.pad(image, [2], padding_mode=mode), int(t), int(x), 10, 10) for image, t, x in zip(images, top, left, strict=True)]
    assert torch.equal(ours, torch.stack(theirs))


def test_turn(images: torch.Tensor) -> None:
    degrees, factor = torch.tensor([0.0, 15.0, -30.0, 90.0, 180.0, -7.0]), torch.tensor([1.0, 1.1, 0.8, 1.0, 1.0, 1.3])
    ours = augment.rotate_and_scale(images, degrees, factor)
    theirs = [
        F.affine(image.float(), float(angle), [0, 0], float(scale), [0.0, 0.0], T.InterpolationMode.BILINEAR)
        for image, angle, scale in zip(images, degrees, factor, strict=True)
    ]
    torch.testing.assert_close(ours.float(), torch.stack(theirs).round(), atol=1, rtol=0)
    assert torch.equal(ours[0], images[0])


def test_flip(images: torch.Tensor) -> None:
    chosen = torch.tensor([True, False, True, False, False, True])
    ours = augment.flip(images, chosen)
    theirs = [F.horizontal_flip(image) if flipped else image for image, flipped in zip(images, chosen, strict=True)]
    assert torch.equal(ours, torch.stack(theirs))


def test_cutout(images: torch.Tensor) -> None:
    row, column = torch.tensor([5, 4, 3, 6, 7, 5]), torch.tensor([5, 6, 7, 3, 4, 5])
    ours = augment.cutout(images, row, column, 4)
    black = torch.zeros(3, 1, 1, dtype=torch.uint8)
    theirs = [F.erase(image, int(r) - 2, int(c) - 2, 4, 4, black) for image, r, c in zip(images, row, column, strict=True)]
    assert torch.equal(ours, torch.stack(theirs))


def test_centre_crop_pads_and_cuts(images: torch.Tensor) -> None:
    for size in (6, 10, 14):
        assert torch.equal(augment.centre_crop(images, (size, size)), F.center_crop(images, [size, size]))


@pytest.mark.parametrize("size", [4, 7, 10, 15])
def test_resize(images: torch.Tensor, size: int) -> None:
    torch.testing.assert_close(augment.resize(images.float(), size), F.resize(images.float(), [size, size], antialias=True))


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixing(images: torch.Tensor, name: str) -> None:
    floats, labels = images.float(), torch.tensor([0, 1, 2, 0, 1, 2])
    theirs = getattr(T, name)(alpha=1.0, num_classes=3)
    torch.manual_seed(1)
    mixed, targets = theirs(floats, labels)
    torch.manual_seed(1)
    parameters = theirs.make_params([floats])
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    if name == "MixUp":
        ours, our_targets = augment.mixup(floats, parameters["lam"]), augment.mixup(one_hot, parameters["lam"])
    else:
        left, top, right, bottom = parameters["box"]
        ours, our_targets = augment.cutmix(floats, (top, left, bottom, right)), augment.mixup(one_hot, parameters["lam_adjusted"])
    torch.testing.assert_close(ours, mixed)
    torch.testing.assert_close(our_targets, targets)


def test_translation_reaches_each_place_as_often() -> None:
    images = torch.zeros(4000, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 1
    moved = Augment([Crop(pad=2)]).geometry(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    places = moved[:, 0].sum(0)
    assert places[2:7, 2:7].sum() == 4000 and places[2:7, 2:7].min() > 110 and places[2:7, 2:7].max() < 215  # 160 on average


def test_flips_come_as_often_as_asked_for() -> None:
    images = torch.zeros(4000, 1, 2, 2, dtype=torch.uint8)
    images[..., 0] = 1
    flipped = Augment([Flip(0.1)]).geometry(images, torch.Generator().manual_seed(0))[:, 0, 0, 1]
    assert 330 < flipped.sum() < 470


def test_cutmix_labels_say_how_many_pixels_are_whose() -> None:
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 20, 20).contiguous()
    for seed in range(20):
        mixed, targets = CutMix(1.0).mix(images, torch.arange(3), 3, torch.Generator().manual_seed(seed))
        shares = torch.stack([(mixed == number).float().mean((1, 2, 3)) for number in range(3)], 1)
        torch.testing.assert_close(targets, shares)


def test_mixup_labels_are_mixed_as_the_images_are() -> None:
    images = torch.nn.functional.one_hot(torch.arange(3), 3).float()[:, :, None, None]
    shares = []
    for seed in range(400):
        mixed, targets = Mixup(0.2).mix(images, torch.arange(3), 3, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(mixed[:, :, 0, 0], targets)
        shares.append(targets[0, 0].item())
    # of Beta(0.2, 0.2): a half, and a quarter over 1.4
    assert mean(shares) == pytest.approx(0.5, abs=0.07) and pvariance(shares) == pytest.approx(0.25 / 1.4, rel=0.15)


@pytest.mark.parametrize(
    "operation",
    [
        Affine(rotate=20),
        Affine(scale=0.3),
        Crop(pad=2),
        Flip(0.5),
        Cutout(0.5),
        Mixup(1.0),
        CutMix(1.0),
        T.TrivialAugmentWide(),
        T.RandomErasing(1.0),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_draws_depend_on_the_generator_alone(images: torch.Tensor, operation: Any) -> None:
    chosen = Augment([operation])

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        moved = chosen.geometry(images, generator).float()
        return chosen.mix(moved, torch.arange(6) % 3, 3, generator)[0]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1), images.float())
