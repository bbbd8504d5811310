"""data=folder: the layouts, the splits, the cache of decoded pictures, and what is told about them."""

import csv
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call, compose
from PIL import Image

from resnet.build_data import build_data
from resnet.config import UserError
from resnet.data import DataSet, decoded, files
from resnet.data.folder import folder
from resnet.data.form import Form


def picture(path: Path, size: tuple[int, int] = (8, 8), seed: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed if seed is not None else abs(hash(str(path))))
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(path)


def pictures(root: Path, **numbers: int) -> Path:
    """cat=3: three pictures in the folder cat; train__cat=3: in train/cat."""
    for name, number in numbers.items():
        for index in range(number):
            picture(root / name.replace("__", "/") / f"{index}.png")
    return root


def data_of(path: Path, *overrides: str) -> DataSet:
    build_data.__globals__["_data"].cache_clear()
    return build_data(compose("data=folder", f"data.path={path}", *overrides))


def names(data: DataSet) -> dict[str, set[str]]:
    return {part: set(split.origins.names) for part, split in (("train", data.train), ("val", data.val), ("test", data.test)) if split}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("TRAIN", "dev", None),
        ("train", "Validation", None),
        ("train", None, "test"),
    ],
)
def test_parts_are_known_by_all_their_names(tmp_path, train, val, test) -> None:
    for part, number in ((train, 20), (val, 3), (test, 4)):
        if part:
            pictures(tmp_path, **{f"{part}__cat": number, f"{part}__dog": number})
    data = data_of(tmp_path)
    found = names(data)
    assert data.classes == ["cat", "dog"] and set().union(*found.values()) == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")
    }
    assert {name.split("/")[0] for name in found["val"]} == {val or train} and {name.split("/")[0] for name in found["test"]} == {
        test or train
    }


def test_a_class_may_be_called_train_and_folders_may_be_wrapped(tmp_path) -> None:
    assert data_of(pictures(tmp_path / "a", train=5, car=5, plane=5)).classes == ["car", "plane", "train"]
    data = data_of(pictures(tmp_path / "b", **{"archive__set__cat": 5, "archive__set__dog": 5}))
    assert data.classes == ["cat", "dog"] and any("its only folder, archive/set, is read" in note for note in data.notes)
    assert data_of(pictures(tmp_path / "c", train__cat=5, train__dog=5)).classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"train__cat": 2, "train__dog": 2, "val__cat": 1, "extra__cat": 1}, "extra beside train and val: neither a part nor in one"),
        ({"val__cat": 2, "val__dog": 2, "test__cat": 2}, "test, val but no train folder"),
        ({"train__cat": 2, "train__dog": 2, "val__cat": 1, "valid__cat": 1}, "val and valid are the same part"),
        ({"train__Cat": 2, "train__dog": 2, "test__cat": 1}, r"test/cat: a class that the training images lack \(did you mean Cat\?\)"),
        ({"cat": 3}, "1 class folder and 0 pictures inside; at least two class folders are needed"),
        ({".": 3}, "0 class folders and 3 pictures inside"),
    ],
)
def test_a_layout_that_is_not_clear_is_one_line(tmp_path, numbers, told) -> None:
    with pytest.raises(UserError, match=told) as error:
        data_of(pictures(tmp_path, **numbers))
    assert "\n" not in str(error.value)


def test_every_file_is_used_or_counted(tmp_path) -> None:
    pictures(tmp_path, cat=6, dog=6, dog__night=2, cat__night=1)
    for name in (
        "cat/notes.txt",
        "dog/labels.json",
        "readme.md",
        ".ipynb_checkpoints/0.png",
        "cat/.hidden/0.png",
        "cat/._0.png",
        "cat/Thumbs.db",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    picture(tmp_path / "elsewhere" / "linked" / "0.png")
    (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "dog" / "link").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere", target_is_directory=True)
    data = data_of(tmp_path)
    found = set().union(*names(data).values())
    assert len(found) == 16 and "dog/link/linked/0.png" in found
    (left_out,) = [note for note in data.notes if note.startswith("left out")]
    assert "3 files that are no pictures" in left_out and all(
        name in left_out for name in ("readme.md", "cat/notes.txt", "dog/labels.json")
    )
    assert any("3 pictures in folders inside a class folder" in note or "4 pictures in folders" in note for note in data.notes)


def test_a_picture_stays_in_its_part_when_others_are_added(tmp_path) -> None:
    before = names(data_of(pictures(tmp_path, cat=60, dog=90)))
    for name in ("cat", "dog"):
        for index in range(30):
            picture(tmp_path / name / f"new{index}.png")
    after = names(data_of(tmp_path))
    assert all(before[part] <= after[part] for part in before) and sum(map(len, after.values())) == 210
    (tmp_path / "cat" / "0.png").unlink()
    assert all(part - {"cat/0.png"} == names(data_of(tmp_path))[name] for name, part in after.items())
    assert 0.1 < len(after["test"]) / 210 < 0.3 and 0.02 < len(after["val"]) / 210 < 0.16
    assert names(data_of(tmp_path, "data.split_seed=1")) != after


@pytest.mark.parametrize(("numbers", "parts"), [({"cat": 300, "dog": 3}, 3), ({"cat": 2, "dog": 2}, 2), ({"cat": 40, "dog": 1}, 1)])
def test_small_classes_are_in_as_many_parts_as_they_have_pictures(tmp_path, numbers, parts) -> None:
    data = data_of(pictures(tmp_path, **numbers))
    there = [split for split in (data.train, data.test, data.val) if split is not None and (split.labels == 1).any()]
    assert len(there) == parts and there[0] is data.train
    told = [note for note in data.notes if ("warning: no" in note and "dog" in note) or "nothing is held out" in note]
    assert (parts == 3) != bool(told)
    assert ("from " in " ".join(data.notes)) == (numbers["cat"] > 10)


def test_two_pictures_of_each_class_train(train, tmp_path) -> None:
    pictures(tmp_path / "mine", cat=2, dog=2)
    done = train("data=folder", "data.path=mine", "epochs=1", "model=resnet", "model.layers=[1,1]", "name=a")
    assert "nothing is held out: the classes have too few images" in done.stdout and "test accuracy" in done.stdout
    with pytest.raises(UserError, match="no test set, and no class of two images or more"):
        data_of(pictures(tmp_path / "one", cat=1, dog=1))


def test_a_number_of_pictures_is_held_out_by_class(tmp_path) -> None:
    data = data_of(pictures(tmp_path, cat=60, dog=20), "data.val_size=8", "data.train_size=10")
    assert Counter(data.val.labels.tolist()) == {0: 6, 1: 2} and Counter(data.train.labels.tolist()) == {0: 5, 1: 5}


def test_bad_files_are_all_named_or_skipped(tmp_path, monkeypatch) -> None:
    pictures(tmp_path, cat=20, dog=20)
    bad = {"cat/3.png": b"", "dog/5.png": b"text", "dog/7.png": (tmp_path / "dog" / "8.png").read_bytes()[:90]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match="4 of 41 pictures cannot be read") as error:
        data_of(tmp_path)
    assert all(name in str(error.value) for name in (*bad, "cat/gone.png")) and "data.on_bad_file=skip" in str(error.value)
    for cache in (1, 0):
        data = data_of(tmp_path, "data.on_bad_file=skip", f"data.cache_gb={cache}")
        assert sum(map(len, names(data).values())) == 37 and not set(bad) & set().union(*names(data).values())
        assert any("left out: 4 files that cannot be read" in note for note in data.notes)
    # A file that was mended is used from then on.
    picture(tmp_path / "cat" / "3.png")
    assert sum(map(len, names(data_of(tmp_path, "data.on_bad_file=skip")).values())) == 38


def test_pictures_are_decoded_once(tmp_path, monkeypatch) -> None:
    pictures(tmp_path / "a", cat=5, dog=5)
    first = folder(str(tmp_path / "a"), 6, 3, "crop", "stop", 1).train.images
    with monkeypatch.context() as patch:
        patch.setattr(files, "read_picture", lambda path, form: pytest.fail("decoded again"))
        assert torch.equal(folder(str(tmp_path / "a"), 6, 3, "crop", "stop", 1).train.images, first)
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "IN_MEMORY", 0)
        mapped = folder(str(tmp_path / "a"), 6, 3, "crop", "stop", 1).train
    assert not isinstance(mapped.images, torch.Tensor) and torch.equal(torch.stack([mapped.images.decode(i) for i in range(10)]), first)


def test_decoding_goes_on_where_it_was_interrupted(tmp_path, monkeypatch) -> None:
    paths = []
    for index in range(20):
        picture(tmp_path / f"{index}.png")
        paths.append(tmp_path / f"{index}.png")
    digests = [bytes([index]) * 32 for index in range(20)]
    monkeypatch.setattr(decoded, "BETWEEN_NOTES", 5)
    monkeypatch.setattr(decoded, "AT_ONCE", 1)
    read, seen = files.read_picture, []

    def stopping(path, form):
        if len(seen) == 12:
            raise KeyboardInterrupt
        seen.append(path)
        return read(path, form)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "read_picture", stopping)
        decoded.decode_all(files.ImageFiles(paths, Form((8, 8), 3)), digests, Form((8, 8), 3), 1)
    again = []
    monkeypatch.setattr(files, "read_picture", lambda path, form: again.append(path) or read(path, form))
    images, bad = decoded.decode_all(files.ImageFiles(paths, Form((8, 8), 3)), digests, Form((8, 8), 3), 1)
    assert again == paths[10:] and not bad
    assert torch.equal(images, torch.stack([read(path, Form((8, 8), 3)) for path in paths]))


def test_the_longest_unused_sets_make_room(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = lambda: {file.stem for file in (tmp_path / "cache/resnet-lab/images").glob("*.uint8")}  # noqa: E731
    limit = 2.5 * 10 * 64 * 64 * 3 / 1e9  # two sets and a half
    for name in "ab":
        pictures(tmp_path / name, cat=5, dog=5)
        folder(str(tmp_path / name), 64, 3, "crop", "stop", limit)
    first, second = sorted((tmp_path / "cache/resnet-lab/images").glob("*.uint8"), key=lambda file: file.stat().st_mtime)
    os.utime(first)  # used again
    os.utime(second, (1, 1))
    pictures(tmp_path / "c", cat=5, dog=5)
    folder(str(tmp_path / "c"), 64, 3, "crop", "stop", limit)
    assert first.stem in kept() and second.stem not in kept() and len(kept()) == 2


@pytest.mark.parametrize(
    ("sizes", "given", "size", "told"),
    [
        ([(64, 48)], [], (48, 64), ""),
        ([(500, 375), (375, 500), (800, 600)], [], (224, 224), "pictures from 500x375 to 800x600 pixels"),
        ([(70, 50), (60, 60)], [], (32, 32), "are scaled to 32x32, the centre cut out"),
        ([(70, 50), (60, 60)], ["data.image_size=[20,40]", "data.fit=pad"], (20, 40), ""),
    ],
)
def test_the_size_suits_the_pictures_and_is_told(tmp_path, sizes, given, size, told) -> None:
    for name in ("cat", "dog"):
        for index in range(6):
            picture(tmp_path / name / f"{index}.png", sizes[index % len(sizes)])
    data = data_of(tmp_path, *given)
    assert data.size == size and (told in " ".join(data.notes)) and bool(told) == any("are scaled to" in note for note in data.notes)


def disc(path: Path) -> None:
    """A disc of 60 pixels in a picture of 300x60."""
    y, x = np.mgrid[:60, :300]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * ((x - 149.5) ** 2 + (y - 29.5) ** 2 < 30**2)).astype(np.uint8)).save(path)


@pytest.mark.parametrize(("fit", "ratio"), [("crop", 1.0), ("pad", 1.0), ("squash", 5.0)])
def test_a_disc_stays_round(tmp_path, fit, ratio) -> None:
    for name in ("a", "b"):
        for index in range(5):
            disc(tmp_path / name / f"{index}.png")
    image = data_of(tmp_path, "data.image_size=60", "data.channels=1", f"data.fit={fit}").train.images[0, 0] > 127
    height, width = (int(image.any(axis).sum()) for axis in (1, 0))
    assert height / width == pytest.approx(ratio, rel=0.1)


def table(path: Path, rows: list[tuple[str, ...]], header: str = "path,label", encoding: str = "utf-8") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding=encoding)
    return path


def test_a_table_of_paths_and_labels(tmp_path) -> None:
    pictures(tmp_path, files=40)
    rows = [(f"files/{index}.png", str(index % 11)) for index in range(40)]
    data = data_of(table(tmp_path / "all.csv", rows, encoding="utf-8-sig"))
    assert data.classes == [str(label) for label in range(11)] and sum(map(len, names(data).values())) == 40
    parts = ["train"] * 30 + ["Valid"] * 5 + ["test"] * 5
    rows = [(part, f"cl{index % 2}", f"files/{index}.png") for index, part in enumerate(parts)]
    data = data_of(table(tmp_path / "parts.csv", rows, "split,Class,File"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 5, 5]


def test_a_group_is_on_one_side_of_each_split(tmp_path) -> None:
    pictures(tmp_path, files=120)
    rows = [(f"files/{index}.png", "ab"[index % 2], f"patient{index // 6}") for index in range(120)]
    data = data_of(table(tmp_path / "all.csv", rows, "path,label,patient"))
    patients = [{int(name.split("/")[1][:-4]) // 6 for name in part} for part in names(data).values()]
    assert len(patients) == 3 and all(patients) and sum(map(len, patients)) == len(set().union(*patients)) == 20


@pytest.mark.parametrize(
    ("rows", "header", "told"),
    [
        ([("files/0.png", "a"), ("files/0.png", "b")], "path,label", "line 3: files/0.png is b, and a before"),
        ([("files/0.png", "a"), ("files/9.png", "b")], "path,label", "1 file missing: files/9.png"),
        ([("files/0.png", "a"), ("files/1.png", "")], "path,label", "line 3 has no label"),
        ([("files/0.png", "a")], "picture,label", "no column for the path .*; its first line has picture, label"),
        ([("files/0.png", "a", "b")], "path,label,class", "label and class could both be the label"),
        ([("files/0.png", "a", "holdout"), ("files/1.png", "b", "train")], "path,label,split", "line 2: holdout for a part"),
        (
            [("files/0.png", "a", "train"), ("files/1.png", "b", "train"), ("files/2.png", "c", "test")],
            "path,label,split",
            "test has the class c",
        ),
    ],
)
def test_a_mistake_in_a_table_is_one_line(tmp_path, rows, header, told) -> None:
    pictures(tmp_path, files=3)
    with pytest.raises(UserError, match=told) as error:
        data_of(table(tmp_path / "all.csv", rows, header))
    assert "\n" not in str(error.value)


def test_names_of_another_unicode_form_are_found(tmp_path) -> None:
    for form in ("NFC", "NFD"):
        for name in ("caffè", "thé"):
            for index in range(5):
                picture(tmp_path / form / unicodedata.normalize(form, name) / f"{index}.png", seed=index)
    found = [data_of(tmp_path / form) for form in ("NFC", "NFD")]
    assert found[0].classes == found[1].classes and names(found[0]) == names(found[1])
    rows = [(unicodedata.normalize("NFC", f"NFD/caffè/{index}.png"), "a") for index in range(5)]
    rows += [(unicodedata.normalize("NFC", f"NFD/thé/{index}.png"), "b") for index in range(5)]
    assert data_of(table(tmp_path / "all.csv", rows)).classes == ["a", "b"]


def test_a_run_on_a_folder_tells_and_records(train, tmp_path) -> None:
    pictures(tmp_path / "mine", cat=30, dog=4)
    (tmp_path / "mine" / "cat" / "notes.txt").write_text("x")
    done = train("data=folder", "data.path=mine", "epochs=1", "model=resnet", "model.layers=[1,1]", "name=a")
    assert "left out: 1 file that is no picture" in done.stdout
    summary = json.loads((tmp_path / "outputs/a/summary.json").read_text())
    assert any("left out: 1 file" in note for note in summary["data"]["notes"])
    rows = list(csv.DictReader((tmp_path / "outputs/a/split.csv").read_text().splitlines()))
    assert len(rows) == 34 and {row["part"] for row in rows} == {"train", "val", "test"}
    assert all(row["file"] == f"{row['class']}/{Path(row['file']).name}" for row in rows)
    bad = tmp_path / "bad.png"
    bad.write_text("x")
    done = call(tmp_path, "-m", "resnet", "predict", "outputs/a", "mine/cat", bad, status=1)
    assert len(done.stdout.splitlines()) == 31 and "bad.png" in done.stderr
