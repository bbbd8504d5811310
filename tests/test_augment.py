"""Batched augmentation against torchvision's on the same parameters."""

from statistics import mean, pvariance
from typing import Any

import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as F

from resnet.build_data import build_augment
from resnet.config import UserError
from resnet.config.cli import compose_config
from resnet.data import transforms as augment
from resnet.data.augment import Affine, Crop, CutMix, Cutout, Flip, Mixup, RandomResizedCrop
from resnet.data.pipeline import Augment
from resnet.data.resized_crop import random_boxes, resized_by_products, resized_crop


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


@pytest.mark.parametrize("size", [(24, 24), (64, 50), (10, 70)])  # smaller and larger
def test_resized_crop(size: tuple[int, int]) -> None:
    images = torch.randint(256, (30, 3, 60, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(30, (60, 48), (0.01, 1.0), (0.5, 2.0), torch.Generator().manual_seed(0))
    theirs = torch.stack(
        [F.resized_crop(image, *box, list(size), antialias=True) for image, box in zip(images, boxes.tolist(), strict=True)]
    )
    for ours in (resized_crop(images, boxes, size), resized_by_products(images, boxes, size)):  # on a CPU, and on other devices
        torch.testing.assert_close(ours.int(), theirs.int(), atol=2, rtol=0)  # noise, at the edge of a rounding
        assert (ours != theirs).float().mean() < 0.05


def test_parts_are_drawn_as_torchvision_draws_them() -> None:
    size, number = (300, 200), 4000
    ours = random_boxes(number, size, (0.08, 1.0), (3 / 4, 4 / 3), torch.Generator().manual_seed(0)).double()
    top, left, height, width = ours.T
    assert min(top.min(), left.min()) >= 0 and (top + height).max() <= 300 and (left + width).max() <= 200
    assert 0.07 < (height * width).min() / 60_000 < 0.1 and (width / height).min() > 0.72 and (width / height).max() < 1.37
    torch.manual_seed(0)
    crop, image = T.RandomResizedCrop(5), torch.empty(1, *size)
    theirs = torch.tensor([list(crop.make_params([image]).values()) for _ in range(number)]).double()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=4, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=3, rtol=0)


@pytest.mark.parametrize("size", [(20, 100), (100, 20)])
def test_where_no_part_has_the_ratio_the_largest_one_in_the_middle_is_taken(size: tuple[int, int]) -> None:
    boxes = random_boxes(3, size, (1.0, 1.0), (0.75, 1.5), torch.Generator().manual_seed(0))
    expected = {(20, 100): [0, 35, 20, 30], (100, 20): [36, 0, 27, 20]}[size]
    assert boxes.tolist() == [expected] * 3


@pytest.mark.parametrize(
    "given", ["photo", "photo_strong", *(f"[{name}]" for name in ("colour_jitter", "rand_augment", "trivial_augment", "augmix"))]
)
def test_operations_for_photographs_take_gray_and_colour_of_any_shape(given: str) -> None:
    chosen = build_augment(compose_config(["data=digits", f"augment={given}"]))
    for channels, size in ((1, (20, 28)), (3, (28, 20))):
        chosen.check(channels, size)
        assert chosen.output_size(size) == size


def test_crops_may_be_rectangles() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(4, -1, -1, -1)
    for operation in (Crop(pad=1, size=[12, 6]), RandomResizedCrop(size=[12, 6])):
        assert Augment([operation]).geometry(images, torch.Generator().manual_seed(0)).shape == (4, 1, 12, 6)
        assert operation.output_size((16, 16)) == (12, 6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{_target_: crop, size: [20, 8]}", r"augment.0.size=\[20,8\]: larger than the images of 8 pixels .* at most \[8,8\]"),
        ("{_target_: crop, size: [8, 0]}", r"augment.0.size=\[8,0\]: out of range; it must be at least 1"),
        ("{_target_: random_resized_crop, size: [8]}", r"size=\[8\]: one number of pixels is needed, or \[height,width\]"),
        ("{_target_: random_resized_crop, size: 8.5}", "augment.0.size=8.5: a whole number, or null, is needed"),
        ("{_target_: random_resized_crop, scale: [0.5, 0.1]}", r"scale=\[0.5, 0.1\]: two numbers are needed, the smaller one first"),
        ("{_target_: random_erasing, prob: 1}", "augment.0.prob: unknown key.*RandomErasing takes p, scale, ratio, value, inplace"),
        ("{_target_: rand_augment, magnitude: strong}", "augment.0.magnitude=strong: a whole number is needed"),
    ],
)
def test_what_is_wrong_with_a_setting_is_one_line(given: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        config = compose_config(["data=digits", f"augment=[{given}]"])
        augment = build_augment(config)
        try:
            augment.check(1, (8, 8))
        except Exception as wrong:
            raise UserError(str(wrong)) from None
    assert "\n" not in str(error.value)


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
        RandomResizedCrop(),
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
