"""The layouts of docs/own_images.md, one by one."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from test_folder import data_of, picture, pictures, table

from resnet.config import UserError
from resnet.data import DataSet

Made = Callable[[Path], object]
Check = Callable[[DataSet], bool]
SKIP = "data.on_bad_file=skip"


def sizes(train: int, val: int, test: int) -> Check:
    """The number of images in each part."""
    return lambda data: [len(data.train), len(data.val or ()), len(data.test)] == [train, val, test]


def count(data: DataSet) -> int:
    return len(data.train) + len(data.val or ()) + len(data.test)


def drawn(data: DataSet) -> bool:
    """About a fifth is the test set, and about a tenth of the rest is held out."""
    return count(data) == 120 and 12 <= len(data.test) <= 36 and 3 <= len(data.val or ()) <= 20


def noted(text: str, number: int | None = None) -> Check:
    def check(data: DataSet) -> bool:
        return any(text in note for note in data.notes) and number in (None, count(data))

    return check


def of(**numbers: int) -> Made:
    return lambda root: pictures(root, **numbers)


def both(*makers: Made) -> Made:
    return lambda root: [make(root) for make in makers]


def file(name: str, content: bytes = b"x") -> Made:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return write


def links(root: Path) -> None:
    pictures(root.parent / f"{root.name}-elsewhere", more=4)
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "linked").symlink_to(root.parent / f"{root.name}-elsewhere" / "more", target_is_directory=True)
    (root / "cat" / "self").symlink_to(root / "cat", target_is_directory=True)
    pictures(root, dog=5)
    (root / "cat" / "one.png").symlink_to(root / "dog" / "0.png")


def rows(header: str, *lines: str) -> Made:
    def write(root: Path) -> None:
        pictures(root, files=30)
        table(root / "all.csv", [tuple(line.split(",")) for line in lines], header)

    return write


CATS = [f"files/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(30)]
PARTS = {"train__cat": 10, "train__dog": 10, "val__cat": 2, "val__dog": 2, "test__cat": 3, "test__dog": 3}
NAMED = {name.replace("train", "Training").replace("val", "VALID").replace("test", "testing"): number for name, number in PARTS.items()}
COFFEE = "caff\u00e8"
UNICODE = {f"train__{COFFEE}": 8, "train__dog": 8, f"val__{unicodedata.normalize('NFD', COFFEE)}": 2, "val__dog": 2}
SPLIT = ["train"] * 20 + ["val"] * 4 + ["test"] * 6
LAYOUTS: list[tuple[str, Made, Check | str, str]] = [
    ("class folders", of(cat=80, dog=40), drawn, ""),
    ("train, val and test folders of class folders", of(**PARTS), sizes(20, 4, 6), ""),
    ("train and test folders", of(train__cat=50, train__dog=50, test__cat=5, test__dog=5), lambda data: len(data.test) == 10, ""),
    ("train and val folders", of(train__cat=50, train__dog=50, val__cat=5, val__dog=5), lambda data: len(data.val or ()) == 10, ""),
    ("only a train folder", of(train__cat=80, train__dog=40), drawn, ""),
    ("Training, VALID and testing folders", of(**NAMED), sizes(20, 4, 6), ""),
    ("a class called train beside other classes", of(train=5, car=5), lambda data: data.classes == ["car", "train"], ""),
    ("a single folder that holds everything", of(set__cat=5, set__dog=5), noted("its only folder, set, is read", 10), ""),
    ("folders inside a class folder", of(cat__night=4, dog=5), noted("4 pictures in folders inside a class folder", 9), ""),
    ("links to folders and files", links, lambda data: count(data) == 10, ""),
    (
        "hidden files and folders, `__MACOSX`, `Thumbs.db`, `.ipynb_checkpoints`",
        both(of(cat=5, dog=5, __MACOSX=3), *map(file, (".ipynb_checkpoints/0.png", "cat/._0.png", "cat/Thumbs.db", ".DS_Store"))),
        lambda data: data.classes == ["cat", "dog"] and not any("left out" in note for note in data.notes),
        "",
    ),
    (
        "files that are no pictures, pictures beside the class folders",
        both(of(cat=5, dog=5), file("cat/notes.txt"), lambda root: picture(root / "loose.png")),
        noted("left out: 2 files", 10),
        "",
    ),
    ("pictures that cannot be read", both(of(cat=5, dog=5), file("cat/0.png"), file("dog/9.jpg")), "2 of 11 pictures cannot be read", SKIP),
    ("class names in another Unicode form, as macOS writes them", of(**UNICODE), lambda data: len(data.classes) == 2, ""),
    ("a class with one picture", of(cat=20, dog=1), noted("no test image of dog", 21), ""),
    ("a class with two pictures", of(cat=20, dog=2), lambda data: 1 in data.train.labels and 1 in data.test.labels, ""),
    (
        "other folders beside train and val",
        of(train__cat=2, train__dog=2, val__cat=1, more__cat=1),
        "more beside train and val: neither",
        "",
    ),
    ("two folders for one part (val and valid)", of(train__cat=2, train__dog=2, val__cat=1, valid__cat=1), "are the same part", ""),
    ("test without train", of(test__cat=2, test__dog=2), "test but no train folder", ""),
    ("a test class that train lacks", of(train__Cat=2, train__dog=2, test__cat=1), r"did you mean Cat\?", ""),
    ("one class folder, or pictures alone", of(cat=5), "at least two class folders are needed", ""),
    (
        "a table with columns path and label",
        rows("path,label", *CATS),
        lambda data: len(data.train) + len(data.val or ()) + len(data.test) == 30,
        "",
    ),
    (
        "a table with a column split",
        rows(
            "path,label,split",
            *(f"{line},{'train' if number < 20 else 'val' if number < 24 else 'test'}" for number, line in enumerate(CATS)),
        ),
        sizes(20, 4, 6),
        "",
    ),
    (
        "a table with a column group (also patient, subject, session)",
        rows("path,label,patient", *(f"{line},{number // 5}" for number, line in enumerate(CATS))),
        lambda data: not set(data.train.origins.groups) & {*data.test.origins.groups, *(data.val.origins.groups if data.val else ())},
        "",
    ),
    (
        "a table that gives a picture two labels",
        rows("path,label", *CATS, "files/1.png,dog"),
        "line 32: files/1.png is dog, and cat before",
        "",
    ),
    ("a table whose files are missing", rows("path,label", *CATS, "files/99.png,dog"), "1 file missing: files/99.png", SKIP),
]


def test_the_page_has_each_layout() -> None:
    page = (ROOT / "docs" / "own_images.md").read_text("utf-8")
    section = page[page.index("## Layouts") : page.index("## Splits")]
    assert [row for row in re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE) if row != "---"][1:] == [
        name for name, *_ in LAYOUTS
    ]


@pytest.mark.parametrize(("name", "make", "becomes", "instead"), LAYOUTS, ids=[name for name, *_ in LAYOUTS])
def test_what_each_layout_becomes(tmp_path, name, make, becomes, instead) -> None:
    make(tmp_path)
    path = tmp_path / "all.csv" if (tmp_path / "all.csv").exists() else tmp_path
    if isinstance(becomes, str):
        with pytest.raises(UserError, match=becomes) as error:
            data_of(path)
        assert "\n" not in str(error.value)
    else:
        assert becomes(data_of(path))
    if instead:
        assert any("left out" in note for note in data_of(path, instead).notes)
