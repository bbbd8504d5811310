"""Data and augmentation of one's own: a source or an operation from one file outside the package, torchvision's and Hugging Face's sets."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

import resnet
from resnet.analysis.evaluate import evaluate
from resnet.analysis.predict import predict
from resnet.analysis.saved import open_run
from resnet.build_data import build_augment, build_data, told_of_idle_augmentation
from resnet.config import UserError, load_config
from resnet.config.cli import compose_config
from resnet.config.hashing import as_text, completed, identity, plain_values
from resnet.data import Loader

LAB = '''
import numpy as np
import torch
from sklearn.datasets import load_digits

from resnet.data import Source, Split


def few(number: int = 600, split_seed: int = 0, wrong: str = ""):
    digits = load_digits()
    images = np.rint(digits.images * 15).astype(np.uint8)[:number, None]
    labels = digits.target[:number]
    if wrong == "float":
        images = images / 255
    if wrong == "wide":
        images = images[..., :4]
    if wrong == "empty":
        images, labels = images[:0], labels[:0]
    if wrong == "labels":
        labels = labels / 2
    if wrong == "file":
        open("nowhere.bin")
    if wrong == "tuple":
        return images, labels
    return Source(Split(images, labels), None, [str(digit) for digit in range(9 if wrong == "classes" else 10)])


class Brighten:
    def __init__(self, most: int = 40) -> None:
        self.most = most

    def __call__(self, images, generator):
        added = torch.randint(self.most + 1, (len(images), 1, 1, 1), generator=generator)
        return (images + added.to(images.device)).clamp(max=255).to(torch.uint8)


class Noise:
    """Of one image, drawn from torch's own generator."""

    def __call__(self, image):
        return (image + torch.randint(9, image.shape)).clamp(max=255).to(torch.uint8)


class AsFloat:
    def __call__(self, images, generator):
        return images / 255


class Broken:
    def __call__(self, image):
        raise KeyError("nothing")
'''
RUN = ("model.layers=[1]", "batch_size=64", "epochs=2", "eval_every=1", "wandb=disabled", "fabric=cpu")
TRIVIAL = "torchvision.transforms.v2.TrivialAugmentWide"
OPERATIONS = f"augment=[{{_target_: crop, pad: 1}},{{_target_: lab.Brighten, most: 20}},lab.Noise,{TRIVIAL}]"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    sys.modules.pop("lab", None)


def data_of(*overrides: str) -> Any:
    return build_data(compose_config([*overrides, "data.val_size=0"]))


def test_a_source_from_one_file(lab) -> None:
    data = data_of("data._target_=lab.few", "data.number=500")
    images, labels = (torch.cat([getattr(part, name) for part in (data.train, data.test)]) for name in ("images", "labels"))
    theirs = load_digits()
    assert (len(data.train), len(data.test), data.classes) == (400, 100, list("0123456789"))
    assert images.double().sum() == np.rint(theirs.images[:500] * 15).sum() and labels.sum() == theirs.target[:500].sum()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.wrong=float", r"data._target_=lab.few: train.images is torch.float64 of shape \(600, 1, 8, 8\); it must be uint8"),
        ("data.wrong=empty", "train has no images"),
        ("data.wrong=labels", "train.labels is torch.float64 of shape .*; it must hold one whole number for each of the 600 images"),
        ("data.wrong=classes", "train has label 9; labels count the 9 classes from 0"),
        ("data.wrong=tuple", "it gives tuple; resnet.data.Source"),
        ("data.wrong=file", "No such file or directory: nowhere.bin"),
        ("data.numbr=1", r"data.numbr: unknown key \(did you mean number\?\); few takes number, split_seed, wrong"),
        ("data.number=x", "data.number=x: a whole number is needed"),
        ("data.number=4", "no test set, and no class of two images or more to take one from"),
        ("data.name=mnist", "the name of other data than"),
    ],
)
def test_what_is_wrong_with_a_source_is_one_line(lab, given, told) -> None:
    with pytest.raises(UserError, match=told) as error:
        config = compose_config(["data._target_=lab.few", given])
        build_data(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given", [["augment=none"], ["augment=cutmix", "data.shift=1"], ["augment=affine"], ["augment=[{_target_: progressive, sizes: [3]}]"]]
)
def test_images_may_be_wider_or_higher(lab, given) -> None:
    run = resnet.train(["data._target_=lab.few", "data.wrong=wide", *given, "data.val_size=0.1", *RUN, "model.layers=[1,1]"])
    assert run.summary["input_size"] == run.summary["data"]["image_size"] == [8, 4] and run.summary["data"]["val"] == 48
    image = Image.fromarray(np.full((80, 80), 200, np.uint8))
    image.save(lab / "own.png")
    assert predict(run, [lab / "own.png"])[0]["class"] in run.classes


def test_a_config_is_written_flat_and_read_again(lab) -> None:
    config = compose_config(["data._target_=lab.few", "data.number=500"])
    values = plain_values(config)
    assert (values["data"]["_target_"], values["data"]["number"], values["data"]["name"]) == ("lab.few", 500, "few")
    assert load_config(values) == config and identity(config)["data.number"] == 500


def test_a_config_from_before_means_the_same() -> None:
    config = compose_config(["data=digits", "augment=affine", "data.flip=0.5"])
    values = plain_values(config)
    del values["data"]["_target_"]
    values["augment"] = {
        **{"pad": 1, "crop": None, "padding_mode": "constant", "flip": 0.5, "cutout": 0.0, "mixup": 0.0, "cutmix": 0.0},
        **{"rotate": 15.0, "scale": 0.1, "progressive": []},
    }
    assert identity(load_config(values)) == identity(config)
    assert completed(values)["augment"] == "affine(rotate=15,scale=0.1)+crop(pad=1)+flip"


def pictures(number: int, sides: tuple[int, ...] = (8,)) -> list[Image.Image]:
    rng = np.random.default_rng(number)
    return [Image.fromarray(rng.integers(0, 256, (sides[i % len(sides)],) * 2 + (3,), np.uint8)) for i in range(number)]


def test_the_format_of_svhn(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for part, number in (("train", 30), ("test", 10)):
        pixels = rng.integers(0, 256, (32, 32, 3, number), np.uint8)
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": (np.arange(number) % 10 + 1)[:, None].astype(np.uint8)})
    with pytest.MonkeyPatch.context() as patch:  # the checksums are those of the real files
        patch.setattr("torchvision.datasets.svhn.check_integrity", lambda path, md5: (tmp_path / path).is_file())
        data = data_of("data=torchvision", "data.dataset=SVHN", f"data.root={tmp_path}", "data.download=false")
    assert (len(data.train), len(data.test), data.channels, data.size) == (30, 10, 3, (32, 32))
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] and data.classes == list("0123456789")  # in the file 10 is a zero
    assert torch.equal(data.test.images[3], torch.from_numpy(pixels[..., 3]).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.dataset=SVNH", "data.dataset=SVNH: torchvision.datasets has no such class"),
        ("data.dataset=ImageFolder", "data.dataset=ImageFolder: not found in nowhere"),
        ("data.dataset=SVHN data.train_split=training", "data.dataset=SVHN: torchvision refuses split=training"),
        ("data.dataset=GTSRB", "data.dataset=GTSRB: not found in nowhere, or not whole"),
        ("lr=1", "data.dataset: no value"),
    ],
)
def test_what_is_wrong_with_a_set_of_torchvision_is_one_line(tmp_path, monkeypatch, given, told) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told) as error:
        build_data(compose_config(["data=torchvision", "data.root=nowhere", "data.download=false", *given.split()]))
    assert "\n" not in str(error.value) and not any(tmp_path.iterdir())


def test_images_of_several_sizes_need_one(tmp_path) -> None:
    folder = tmp_path / "imagenette2"
    for part in ("train", "val"):
        for name, image in zip(("n01440764", "n02102040"), pictures(2, (8, 12)), strict=True):
            (folder / part / name).mkdir(parents=True)
            image.save(folder / part / name / "0.JPEG")
    given = ("data=torchvision", "data.dataset=Imagenette", "data.test_split=val", f"data.root={tmp_path}", "data.download=false")
    with pytest.raises(UserError, match="an image of 12x12 pixels, where all must be of one size"):
        data_of(*given)
    data = data_of(*given, "data.image_size=8", "data.channels=1")
    assert data.train.images.shape == (2, 1, 8, 8) and data.classes == ["tench", "English springer"]


@pytest.mark.filterwarnings("ignore")  # of what it is built on
def test_a_data_set_of_hugging_face_on_disk(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    kept = pictures(10)
    for part in ("train", "test"):
        for number, image in enumerate(kept):
            path = tmp_path / "folder" / part / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    in_folders = data_of("data=hugging_face", f"data.path={tmp_path}/folder", f"data.root={tmp_path}/root")
    assert in_folders.classes == ["cat", "dog"] and in_folders.train.labels.tolist() == [0] * 5 + [1] * 5
    found = datasets.load_dataset(str(tmp_path / "folder"), cache_dir=str(tmp_path / "root"))
    found.rename_columns({"image": "picture", "label": "kind"}).save_to_disk(tmp_path / "disk")
    given = ("data=hugging_face", f"data.path={tmp_path}/disk", f"data.root={tmp_path}/root")
    data = data_of(*given, "data.image_column=picture", "data.label_column=kind")
    assert data.classes == ["cat", "dog"] and torch.equal(data.train.images, in_folders.train.images)
    assert torch.equal(data.test.images[5], torch.from_numpy(np.array(kept[1])).permute(2, 0, 1))
    with pytest.raises(UserError, match="no column image; it has picture, kind"):
        data_of(*given)
    with pytest.raises(UserError, match="validation: no such part; it has train, test"):
        data_of(*given, "data.test_split=validation")
    with pytest.raises(UserError, match="valid: no such part; it has train, test"):
        data_of(*given, "data.val_split=valid")
    found["validation"] = found["test"].select(range(4))
    found.save_to_disk(tmp_path / "three")
    assert len(data_of("data=hugging_face", f"data.path={tmp_path}/three", f"data.root={tmp_path}/root").val) == 4


def test_hugging_face_that_is_not_installed_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="the package datasets is not installed"):
        data_of("data=hugging_face", f"data.path={tmp_path}")


def test_arrays_know_their_classes(tmp_path) -> None:
    arrays = {"x_train": np.zeros((4, 8, 8), np.uint8), "y_train": [0, 1, 0, 1], "x_test": np.zeros((2, 8, 8), np.uint8), "y_test": [1, 0]}
    np.savez(tmp_path / "named.npz", **arrays, classes=["cat", "dog"])
    given = ("data=arrays", f"data.path={tmp_path}/named.npz")
    assert data_of(*given).classes == ["cat", "dog"] and data_of(*given, "data.classes=[a,b]").classes == ["a", "b"]
    with pytest.raises(UserError, match="y_train has label 1, where the classes are: a"):
        data_of(*given, "data.classes=[a]")


def test_operations_of_one_s_own_and_of_torchvision_draw_from_the_position_alone(lab) -> None:
    config = compose_config(["data=digits", OPERATIONS])
    data, augment = build_data(config), build_augment(config)
    augment.check(data.channels, data.size)

    def batches(rank: int = 0, world_size: int = 1) -> Any:
        settings = {"mean": data.mean, "std": data.std, "num_classes": 10, "shuffle": True, "rank": rank, "world_size": world_size}
        return Loader(data.train, 50, augment, **settings)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = [batch.images for batch in batches().epoch()][:3]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(next(batches().epoch(start=2)).images, whole[2])
    for rank in range(2):
        assert torch.equal(next(batches(rank, 2).epoch()).images, whole[0][rank::2])
    same = torch.full((20, 1, 8, 8), 100, dtype=torch.uint8)
    changed = augment.geometry(same, torch.Generator().manual_seed(0))
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 15  # each image by a seed of its own
    assert as_text(config.augment) == "crop(pad=1)+lab.Brighten(most=20)+lab.Noise+trivial_augment"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[lab.AsFloat]", r"augment.0: AsFloat gives torch.float32 of shape \(3, 1, 8, 8\); it must give torch.uint8"),
        ("[flip,lab.Broken]", "augment: it fails on uint8 images of shape .*KeyError"),
        ("[{_target_: torchvision.transforms.v2.RandomCrop, size: 4}]", "augment.0: RandomCrop gives torch.uint8 of shape"),
        ("[mixup,cutmix]", "Mixup and CutMix cannot both mix a batch"),
        ("[mixup,flip]", "Mixup mixes whole batches and must come last"),
        ("[{_target_: lab.Brighten, least: 1}]", "augment.0.least: unknown key.*Brighten takes most"),
        ("[{_target_: lab.Brighten, most: x}]", "augment.0.most=x: a whole number is needed"),
        ("[{_target_: flip, p: 2}]", "augment.0.p=2.0: out of range"),
        ("[flop]", r"augment.0=flop: no such choice \(did you mean flip\?\)"),
    ],
)
def test_what_is_wrong_with_an_operation_is_one_line(lab, given, told) -> None:
    with pytest.raises(UserError, match=told) as error:
        config = compose_config(["data=digits", f"augment={given}"])
        build_augment(config)
        resnet.train(["data=digits", f"augment={given}", *RUN, "name=a"])
    assert "\n" not in str(error.value) and not (lab / "outputs").exists()


def test_train_resume_evaluate_with_one_s_own_data_and_operations(lab) -> None:
    given = ("data._target_=lab.few", "data.number=300", "data.val_size=50", OPERATIONS, "scheduler=constant", *RUN)
    resnet.train([*given, "name=parts", "max_steps=2"])
    parts, whole = resnet.train([*given, "name=parts", "max_steps=5"]), resnet.train([*given, "name=whole", "max_steps=5"])
    one, other = (torch.load(run.directory / "checkpoints/last.pt", weights_only=True)["model"] for run in (parts, whole))
    assert all(torch.equal(one[name], other[name]) for name in other) and one.keys() == other.keys()
    assert evaluate(open_run(lab / "outputs/whole"), "test")["accuracy"]["value"] == whole.summary["test"]["accuracy"]


@pytest.mark.parametrize(
    ("given", "is_told"), [("data.shift=0", True), ("data.shift=2", False), ("augment=none", False), ("augment=article", False)]
)
def test_an_augmentation_that_does_nothing_is_told(lab, given, is_told) -> None:
    config = compose_config(["data._target_=lab.few", "augment=translate", given])
    assert any("augment changes no image" in note for note in told_of_idle_augmentation(config)) == is_told
