"""python -m resnet check-data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call
from PIL import Image, ImageFilter
from test_folder import picture, pictures

from resnet.data import Split
from resnet.data.duplicates import nearly_same, same_images


def smooth(path: Path, seed: int, size: int = 64, **settings: int) -> None:
    """A picture like a photo: large patches of colour."""
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((size, size), Image.Resampling.BICUBIC).save(path, **settings)


def test_a_report_of_a_folder_with_all_that_can_be_wrong(tmp_path) -> None:
    for part, start, number in (("train", 0, 20), ("val", 30, 4), ("test", 40, 4)):
        for seed in range(start, start + number):
            smooth(tmp_path / "mine" / part / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    smooth(tmp_path / "mine" / "test" / "cat" / "again.jpg", 2, size=50, quality=60)  # scaled and encoded again
    smooth(tmp_path / "mine" / "val" / "dog" / "copy.png", 4)  # the same file, under another label
    smooth(tmp_path / "mine" / "train" / "dog" / "twice.png", 5)
    (tmp_path / "mine" / "train" / "cat" / "bad.png").write_text("x")
    (tmp_path / "mine" / "train" / "cat" / "notes.txt").write_text("x")
    arguments = ("-m", "resnet", "check-data", "data=folder", "data.path=mine", "data.image_size=32")
    report = json.loads(call(tmp_path, *arguments, "--json").stdout)
    assert report["classes"]["train"] == {"cat": 10, "dog": 11} and report["classes"]["test"] == {"cat": 3, "dog": 2}
    assert len(report["unreadable"]) == 1 and "bad.png" in report["unreadable"][0]
    assert report["between_parts"] == report["label_conflicts"] == [["train/cat/4.png (train, cat)", "val/dog/copy.png (val, dog)"]]
    assert ["train/dog/5.png (train, dog)", "train/dog/twice.png (train, dog)"] in report["duplicates"]
    assert {(one["image"], one["train"]) for one in report["nearly_same"]} == {
        ("test/cat/again.jpg (test, cat)", "train/cat/2.png (train, cat)"),
        ("val/dog/copy.png (val, dog)", "train/cat/4.png (train, cat)"),
    }
    told = call(tmp_path, *arguments).stdout
    assert "cannot be read: 1" in told and "the same image under several labels: 1" in told and "left out: 1 file" in told
    with Image.open(tmp_path / "check-data" / "classes.png") as sheet:
        assert sheet.width > 500 and np.asarray(sheet.convert("L").filter(ImageFilter.FIND_EDGES)).std() > 1


def test_images_of_one_colour_are_like_no_other() -> None:
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    images[1] += 100
    split = Split(images, torch.zeros(3, dtype=torch.int64))
    assert nearly_same(split, split) == [] and len(same_images({"train": split})) == 1


@pytest.mark.parametrize("given", ["data=digits", "data=folder data.path=mine"])
def test_data_without_anything_wrong(tmp_path, given) -> None:
    pictures(tmp_path / "mine", cat=12, dog=12)
    told = call(tmp_path, "-m", "resnet", "check-data", *given.split()).stdout
    assert "cannot be read: none" in told and "the same image in several parts: none" in told


def test_a_mistake_is_one_line(tmp_path) -> None:
    picture(tmp_path / "mine" / "cat" / "0.png")
    error = call(tmp_path, "-m", "resnet", "check-data", "data=folder", "data.path=mine", status=2).stderr
    assert "at least two class folders are needed" in error and len(error.splitlines()) == 1
