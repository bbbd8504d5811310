"""The user's own arrays: what is unambiguous is taken, what is not is named, and evaluate reads them by the same rules."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose

from resnet.build_data import build_data
from resnet.config import load_config
from resnet.config.hashing import plain_values
from resnet.data import DataError, Source, images_to_evaluate
from resnet.data.arrays import arrays
from resnet.data.form import Form

N = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 8, 3), np.uint8)  # neither side is 1 or 3
PIXELS[0, 0, :2] = [[0] * 3, [255] * 3]
GRAY = PIXELS[..., 0]
LABELS = np.arange(N) % 3
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(**named: Any) -> Source:
    np.savez("own.npz", **named)
    return arrays("own.npz")


def both(images: Any = PIXELS, labels: Any = LABELS) -> dict[str, Any]:
    return {"x_train": images, "y_train": labels, "x_test": images[:6], "y_test": labels[:6]}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (PIXELS, EXPECTED),
        (PIXELS.transpose(0, 3, 1, 2), EXPECTED),
        (np.asfortranarray(PIXELS), EXPECTED),
        (GRAY, EXPECTED[:, :1]),
        (GRAY[..., None], EXPECTED[:, :1]),
        (GRAY[:, None], EXPECTED[:, :1]),
        (PIXELS.astype(np.int64), EXPECTED),
        (PIXELS.astype(np.uint16), EXPECTED),
        (PIXELS.astype(np.uint16) * 256 + 200, EXPECTED),
        (PIXELS.astype(np.int32) * 256 + 200, EXPECTED),
        (PIXELS / 255, EXPECTED),
        ((PIXELS / 255).astype(np.float32), EXPECTED),
        (PIXELS.astype(np.float16), EXPECTED),
        (PIXELS / 255 + 0.0005, EXPECTED),  # resizing may go this far above 1
        (PIXELS > 127, torch.where(EXPECTED > 127, 255, 0)),
    ],
)
def test_pixels_of_any_type_and_order_are_the_same_images(images, expected) -> None:
    source = read(**both(images))
    assert source.train.images.dtype == torch.uint8 and (source.train.images.int() - expected).abs().max() <= 0
    assert source.test and torch.equal(source.test.images, source.train.images[:6])


def test_all_arrays_together_decide_what_their_values_mean() -> None:
    dark = np.minimum(PIXELS, 1).astype(float)  # alone, these would be black and white
    source = read(x_train=PIXELS.astype(float), y_train=LABELS, x_test=dark, y_test=LABELS, x_val=PIXELS, y_val=LABELS)
    assert source.test and source.val and source.test.images.max() == 1 and torch.equal(source.val.images, source.train.images)
    assert source.notes == ["x_train, x_test: float64 from 0 to 255, read as 8-bit values"]


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (PIXELS / 127.5 - 1, "own.npz: x_train, x_test: values from -1 to 1, whose white is unknown: .*; scale them"),
        (PIXELS / 200, "values from 0 to 1.275, whose white is unknown"),
        (PIXELS * 1000.0, "values from 0 to 255000, whose white is unknown"),
        (PIXELS.astype(np.int32) * 1000, "values from 0 to 255000, whose white is unknown"),
        (PIXELS.astype(np.int16) - 1, "values from -1 to 254, whose white is unknown"),
        (np.where(PIXELS == 255, np.nan, PIXELS), r"values that are no numbers \(NaN or infinity\)"),
        (PIXELS.astype(complex), r"x_train is complex128 of shape \(12, 6, 8, 3\); numbers of shape"),
        (PIXELS.astype(str), r"x_train is <U3 of shape \(12, 6, 8, 3\); numbers of shape"),
        (PIXELS.reshape(N, -1), r"x_train is uint8 of shape \(12, 144\); numbers of shape \(N, H, W\)"),
        (PIXELS[:, :3], r"x_train is of shape \(12, 3, 8, 3\), in which the channels could come first or last"),
        (PIXELS[:, :1, :, :1], r"x_train is of shape \(12, 1, 8, 1\), in which the channels could come first or last"),
        (PIXELS[..., :2], r"x_train is of shape \(12, 6, 8, 2\); 1 or 3 channels are needed"),
        (PIXELS.transpose(1, 2, 3, 0), r"x_train is of shape \(6, 8, 3, 12\); 1 or 3 channels are needed"),
        (PIXELS[:, :0], "x_train is uint8 of shape .*, of one pixel at least"),
    ],
)
def test_pixels_that_could_mean_several_things_are_named(images, told) -> None:
    with pytest.raises(DataError, match=told) as error:
        read(**both(images))
    assert "\n" not in str(error.value) and str(error.value).startswith("data.path=own.npz: ")


ONE_HOT = np.eye(3, dtype=int)[LABELS]
WORDS = np.array(["dog", "ant", "cat"])[LABELS]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers", "is_noted"),
    [
        (LABELS, "0 1 2", LABELS, False),
        (LABELS[:, None].astype(np.uint8), "0 1 2", LABELS, False),
        (LABELS.astype(np.float32), "0 1 2", LABELS, False),
        (ONE_HOT, "0 1 2", LABELS, False),
        (ONE_HOT.astype(bool), "0 1 2", LABELS, False),
        (ONE_HOT.astype(np.float32), "0 1 2", LABELS, False),
        (WORDS, "ant cat dog", np.array([2, 0, 1])[LABELS], False),
        (WORDS.astype("S"), "ant cat dog", np.array([2, 0, 1])[LABELS], False),
        (np.array(["9", "10", "1"])[LABELS], "1 9 10", np.array([1, 2, 0])[LABELS], False),
        (LABELS > 0, "False True", (LABELS > 0).astype(int), False),
        (LABELS + 1, "1 2 3", LABELS, True),
        (np.array([0, 1, 255])[LABELS], "0 1 255", LABELS, True),
        (np.array([7, 10_000_000, 2])[LABELS], "2 7 10000000", np.array([1, 2, 0])[LABELS], True),
    ],
)
def test_labels_of_any_kind_are_numbers_of_classes(labels, classes, numbers, is_noted) -> None:
    source = read(**both(labels=labels))
    assert source.classes == classes.split() and source.train.labels.tolist() == numbers.tolist()
    assert source.test and source.test.labels.tolist() == numbers[:6].tolist()
    assert [note for note in source.notes if "y_train does not count from 0" in note and f": {', '.join(classes.split())}" in note] == list(
        source.notes
    ) and bool(source.notes) == is_noted


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[:5], r"y_train is int64 of shape \(5,\); it must hold one label for each of the 12 images"),
        (LABELS + 0.5, "y_train has label 0.5; whole numbers are needed"),
        (np.where(LABELS == 0, np.nan, LABELS), "y_train has label nan; whole numbers are needed"),
        (LABELS - 1, "y_train has label -1, which names no class"),
        (np.ones((N, 3)), "y_train is of shape .*, and row 0 is not one-hot"),
        (np.tile([1, 1, -1], (N, 1)), "y_train is of shape .*, and row 0 is not one-hot"),
        (np.full((N, 2), 0.5), "y_train is of shape .*, and row 0 is not one-hot"),
        (LABELS.astype(complex), "y_train is complex128"),
        (ONE_HOT[..., None], r"y_train is int64 of shape \(12, 3, 1\)"),
    ],
)
def test_labels_that_are_none_are_named(labels, told) -> None:
    with pytest.raises(DataError, match=f"data.path=own.npz: {told}"):
        read(**{**both(), "y_train": labels})


def test_labels_that_training_lacks_are_named() -> None:
    for part in ("test", "val"):
        extra = {f"x_{part}": PIXELS, f"y_{part}": np.array([0, 1, 2, 9, 8, 9] * 2)}
        with pytest.raises(DataError, match=f"y_{part} has labels 8, 9, which y_train lacks"):
            read(**{**both(), **extra})
        with pytest.raises(DataError, match=f"y_{part} has label cow, which y_train lacks"):
            read(**{**both(labels=WORDS), **extra, f"y_{part}": np.array(["ant", "cow"] * 6)})


def test_named_classes_are_what_labels_index_or_are_among() -> None:
    names = ["dog", "ant", "cat"]
    for key in ("classes", "class_names", "label_names"):
        assert read(**both(), **{key: names}).classes == names
    source = read(**both(labels=WORDS), classes=names)
    assert source.classes == names and source.train.labels.tolist() == LABELS.tolist()
    assert arrays("own.npz", ["cat", "dog", "ant"]).train.labels.tolist() == np.array([1, 2, 0])[LABELS].tolist()
    with pytest.raises(DataError, match="y_train has label 2, where the classes are: a, b"):
        read(**both(), classes=["a", "b"])
    with pytest.raises(DataError, match="y_train has label cat, where the classes are: dog, ant"):
        read(**both(labels=WORDS), classes=["dog", "ant"])
    for odd in (3, ["a", "a", "b"], [0.5, 1.5, 2.5]):
        with pytest.raises(DataError, match=r"classes is .*; it must hold different names"):
            read(**both(), classes=odd)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev"])
def test_val_is_held_out_as_it_is_given(val) -> None:
    source = read(**both(), **{f"x_{val}": PIXELS[:4], f"y_{val}": LABELS[:4]})
    assert source.val and torch.equal(source.val.images, EXPECTED[:4]) and source.val.labels.tolist() == LABELS[:4].tolist()
    with pytest.raises(DataError, match="y_val is missing; it holds"):
        read(**both(), **{f"x_{val}": PIXELS[:4]})


@pytest.mark.parametrize(
    "names",
    [
        "x_train y_train",
        "X_train Y_train",
        "XTRAIN yTrain",
        "train_images train_labels",
        "train-x train-y",
        "trainX trainY",
        "images labels",
    ],
)
def test_names_that_are_in_use(names) -> None:
    x, y = names.split()
    source = read(**{x: PIXELS, y: LABELS, "ids": LABELS})
    assert torch.equal(source.train.images, EXPECTED) and source.train.labels.tolist() == LABELS.tolist() and source.test is None
    assert list(source.notes) == ["left out of own.npz: ids"]


def test_medmnist_s_file_as_it_is() -> None:
    parts = {"train": 12, "val": 5, "test": 7}
    images = {f"{part}_images": GRAY[:number] for part, number in parts.items()}
    source = read(**images, **{f"{part}_labels": LABELS[:number, None].astype(np.uint8) for part, number in parts.items()})
    assert [len(split) if split else 0 for split in (source.train, source.val, source.test)] == [12, 5, 7] and not source.notes


def test_names_that_say_the_same_are_named() -> None:
    for twice in ({"train_images": PIXELS}, {"X": PIXELS}):
        with pytest.raises(DataError, match=f"x_train and {next(iter(twice))}|{next(iter(twice))} and x_train"):
            read(**both(), **twice)
    with pytest.raises(DataError, match="x_train is missing; it holds a, b"):
        read(a=PIXELS, b=LABELS)
    with pytest.raises(DataError, match="y_test is missing"):
        read(x_train=PIXELS, y_train=LABELS, x_test=PIXELS)


def test_npy_files_beside_each_other() -> None:
    Path("mine").mkdir()
    for name, values in both(PIXELS / 255).items():
        np.save(f"mine/{name}.npy", values)
    for path in ("mine", "mine/x_train.npy"):
        source = arrays(path)
        assert torch.equal(source.train.images, EXPECTED) and source.test and len(source.test) == 6
    Path("mine/y_train.npy").unlink()
    with pytest.raises(DataError, match=r"data\.path=mine: y_train is missing; it holds x_test, x_train, y_test"):
        arrays("mine")
    content = Path("mine/x_train.npy").read_bytes()
    np.save("mine/y_train.npy", LABELS)
    for bad, told in (
        (content[:-8], "claims to be of shape"),
        (b"", "no header"),
        (content.replace(b"(12,", b"(99,"), "claims to be of shape"),
    ):
        Path("mine/x_train.npy").write_bytes(bad)
        with pytest.raises(DataError, match=f"data.path=mine: truncated, corrupt or not an .npy file of plain arrays .x_train.*{told}"):
            arrays("mine")
    Path("empty").mkdir()
    with pytest.raises(
        DataError, match=r"data\.path=empty: x_train is missing; it holds no .npy files; pictures in folders are data=folder"
    ):
        arrays("empty")


class Runs:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_pickled_objects_are_refused_and_never_loaded() -> None:
    np.savez("own.npz", **{**both(), "y_train": np.array([Runs()] * N, dtype=object)})
    np.save("objects.npy", np.array([Runs()], dtype=object))
    Path("own.pkl.npz").write_bytes(pickle.dumps(Runs()))
    Path("x_train.npy").write_bytes(Path("objects.npy").read_bytes())
    np.save("y_train.npy", LABELS)
    for path in ("own.npz", "own.pkl.npz", "x_train.npy"):
        with pytest.raises(DataError, match="truncated, corrupt or not an"):
            arrays(path)
    assert not Path("ran").exists()


def test_images_without_spread_are_named() -> None:
    flat = PIXELS.copy()
    flat[..., 1] = 7
    assert list(read(**both(flat)).notes) == [f"warning: channel 1 of {name} is 7 in all its pixels" for name in ("x_train", "x_test")]
    assert list(read(**both(flat * 0)).notes) == [f"warning: all pixels of {name} are 0" for name in ("x_train", "x_test")]


def test_images_of_two_shapes_are_named() -> None:
    with pytest.raises(DataError, match=r"x_train has images of shape \(3, 6, 8\), x_test of \(1, 6, 8\); they must agree"):
        read(**{**both(), "x_test": GRAY[:6]})


def evaluated(model: list[str], **named: Any) -> Any:
    np.savez("own.npz", **named)
    return images_to_evaluate(Path("own.npz"), model, Form((6, 8), 3), "photos")


def test_evaluate_reads_arrays_by_the_same_rules() -> None:
    for images in (PIXELS, PIXELS.transpose(0, 3, 1, 2) / 255):
        for names in (("x_test", "y_test"), ("images", "labels"), ("test_images", "test_labels")):
            split = evaluated(["0", "1", "2"], **dict(zip(names, (images, LABELS[:, None]), strict=True)))
            assert torch.equal(split.images, EXPECTED) and split.labels.tolist() == LABELS.tolist()
    split = evaluated(["0", "1", "2"], x_test=GRAY[:, ::2, ::2], y_test=LABELS)  # gray and of another size
    assert split.images.shape == (N, 3, 6, 8)
    with pytest.raises(DataError, match=r"--images own\.npz: x_test is missing; it holds x_train, y_train"):
        evaluated(["0"], x_train=PIXELS, y_train=LABELS)


@pytest.mark.parametrize(
    ("labels", "names", "classes", "numbers"),
    [
        (LABELS, None, ["cat", "dog", "ant"], LABELS),  # places in the list
        (LABELS + 1, None, ["1", "2", "3"], LABELS),  # values
        (np.array([9, 255, 0])[LABELS], None, ["0", "9", "255"], np.array([1, 2, 0])[LABELS]),
        (WORDS, None, ["ant", "cat", "cow", "dog"], np.array([3, 0, 1])[LABELS]),
        (LABELS, ["dog", "ant", "cat"], ["ant", "cat", "cow", "dog"], np.array([3, 0, 1])[LABELS]),
        (LABELS > 0, None, ["False", "True"], LABELS > 0),
        (LABELS > 0, None, ["cat", "dog"], LABELS > 0),
    ],
)
def test_evaluate_finds_the_model_s_classes_by_name(labels, names, classes, numbers) -> None:
    given = {"x_test": PIXELS, "y_test": labels, **({"classes": names} if names else {})}
    assert evaluated(classes, **given).labels.tolist() == numbers.astype(int).tolist()


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        (LABELS, ["1", "2", "3"], "y_test has label 0, where the classes are: 1, 2, 3"),
        (LABELS, ["cat", "dog"], "y_test has label 2, where the classes are: cat, dog"),
        (WORDS, ["cat", "dog"], "y_test has label ant, where the classes are: cat, dog"),
    ],
)
def test_evaluate_names_labels_that_the_model_lacks(labels, classes, told) -> None:
    with pytest.raises(DataError, match=f"--images own.npz: {told}"):
        evaluated(classes, x_test=PIXELS, y_test=labels)


def test_a_config_from_before_finds_the_arrays() -> None:
    np.savez("own.npz", **both())
    config = compose("data=arrays", "data.path=own.npz", "data.val_size=0")
    values = plain_values(config)
    values["data"]["_target_"] = "resnet.data.sources.arrays"
    data = build_data(load_config(values))
    assert load_config(values) == config and torch.equal(data.train.images, EXPECTED) and data.size == (6, 8)
