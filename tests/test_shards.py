"""data=webdataset and data=parquet: shards made here are the folder that they were made of, image by image."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose
from PIL import Image

import resnet
from resnet.build_data import build_data
from resnet.config import UserError
from resnet.data import DataSet, Loader
from resnet.data import shards as reading
from resnet.data.shard_files import expanded
from resnet.data.spans import Spans

SETTINGS = ("data.image_size=8", "data.val_size=0.2")
Member = tuple[str, bytes]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: str, members: list[Member]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    os.utime(path, (1e9, 1e9))


def write_parquet(path: str, rows: list[tuple[Any, Any]], names: list[str] | None = None) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": [image for image, _ in rows], "label": [label for _, label in rows]})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=7)


PICTURES: list[Member] = [
    (f"{kind}/{number}.png", picture(number + 100 * row)) for row, kind in enumerate(("cat", "dog")) for number in range(20)
]
PICTURES.sort()
ROWS = [({"bytes": content, "path": name}, int(name.startswith("dog"))) for name, content in PICTURES]


def as_folder() -> DataSet:
    for name, content in PICTURES:
        Path("folder", name).parent.mkdir(parents=True, exist_ok=True)
        Path("folder", name).write_bytes(content)
    return data_of("data=folder", "data.path=folder")


def as_tars() -> tuple[str, ...]:
    for shard in range(4):
        write_tar(f"tars/{shard:03}.tar", PICTURES[shard * 10 :][:10])
    return "data=webdataset", "data.path='tars/{000..003}.tar'"


def as_parquet() -> tuple[str, ...]:
    for shard in range(3):
        write_parquet(f"parquet/train-{shard}-of-3.parquet", ROWS[shard * 15 :][:15], ["cat", "dog"])
    return "data=parquet", "data.path=parquet"


def data_of(*overrides: str) -> DataSet:
    build_data.__globals__["_data"].cache_clear()
    return build_data(compose(*overrides, *SETTINGS))


@pytest.mark.parametrize("made", [as_tars, as_parquet])
def test_shards_are_the_folder_that_they_were_made_of(made) -> None:
    folder, given = as_folder(), made()
    for cache in ((), ("data.cache_gb=0",)):
        data = data_of(*given, *cache)
        assert data.classes == ["cat", "dog"] and data.digests == folder.digests  # the same images, in the same order and parts
        assert (data.mean, data.std) == (folder.mean, folder.std)
        assert isinstance(data.train.images, Spans) == bool(cache)
        assert torch.equal(torch.stack([data.test.images[torch.tensor([0])].decode(0)]), folder.test.images[:1]) if cache else True


@pytest.mark.parametrize("made", [as_tars, as_parquet])
def test_each_process_gets_its_share_and_an_epoch_goes_on_in_the_middle(made) -> None:
    data = data_of(*made(), "data.cache_gb=0")
    settings: dict[str, Any] = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "num_classes": 2, "shuffle": True, "seed": 3}
    whole = [batch.images for batch in Loader(data.train, 8, **settings).epoch(1)]
    in_memory = torch.stack([data.train.images.decode(index) for index in range(len(data.train))])
    assert sorted(torch.cat(whole).sum((1, 2, 3)).tolist()) == sorted(in_memory.float().sum((1, 2, 3)).tolist())  # each image once
    for workers in (0, 2):
        shares = [
            [batch.images for batch in Loader(data.train, 8, **settings, workers=workers, rank=rank, world_size=2).epoch(1)]
            for rank in (0, 1)
        ]
        assert all(torch.equal(one[rank::2], share) for rank in (0, 1) for one, share in zip(whole, shares[rank], strict=True))
        later = [batch.images for batch in Loader(data.train, 8, **settings, workers=workers).epoch(1, start=2)]
        assert all(torch.equal(one, other) for one, other in zip(whole[2:], later, strict=True))


def samples(numbers: range, label: str = "cls", offset: int = 0) -> list[Member]:
    found = []
    for number in numbers:
        value = number % 3 + offset
        content = json.dumps({"label": value, "text": "a caption"}) if label == "json" else f"{value}\n"
        found += [(f"./{number:06}.{label}", content.encode()), (f"./{number:06}.png", picture(number))]
    return found


def test_labels_beside_pictures_and_parts_by_name() -> None:
    write_tar("s/set-train-0.tar", samples(range(12)))
    write_tar(
        "s/set-train-1.tar", [*samples(range(12, 24), "json"), ("000012.seg.png", picture(0)), ("._000013.png", b"x"), ("a.txt", b"")]
    )
    write_tar("s/set-val-0.tar", samples(range(24, 30)))
    write_tar("s/set-test-0.tar", samples(range(30, 36)))
    for path in ("s", "'s/*.tar'", "'s/set-{train,val,test}-{0..0}.tar'"):
        data = data_of("data=webdataset", f"data.path={path}")
        assert [len(split) for split in (data.train, data.val, data.test)] == [12 if "{" in path else 24, 6, 6]
        assert data.classes == ["0", "1", "2"] and data.train.labels[:5].tolist() == [0, 1, 2, 0, 1]
    assert data_of("data=webdataset", "data.path=s", "data.classes=[a,b,c]").classes == ["a", "b", "c"]
    write_tar("t/train.tar", samples(range(12), offset=1))
    data = data_of("data=webdataset", "data.path=t")
    assert data.classes == ["1", "2", "3"] and any("does not count from 0" in note for note in data.notes)


def test_parquet_of_plain_bytes_and_words() -> None:
    write_parquet("p/a.parquet", [(content, name.partition("/")[0]) for name, content in PICTURES])
    data = data_of("data=parquet", "data.path=p/a.parquet")
    assert data.classes == ["cat", "dog"] and sum(len(split) for split in (data.train, data.val, data.test)) == 40
    write_parquet("p/a.parquet", ROWS)
    assert data_of("data=parquet", "data.path=p/a.parquet").classes == ["0", "1"]


def test_braces_stand_for_what_they_do_in_a_shell() -> None:
    assert list(expanded("{a,b}-{08..10}.tar")) == [f"{part}-{number}.tar" for part in "ab" for number in ("08", "09", "10")]
    assert list(expanded("plain.tar")) == ["plain.tar"] and list(expanded("{9..10}")) == ["9", "10"]


@pytest.mark.parametrize(("made", "index"), [(as_tars, "tar_index"), (as_parquet, "parquet_index")])
def test_a_shard_is_indexed_once_until_it_changes(monkeypatch, made, index) -> None:
    given = made()
    before = data_of(*given).digests
    monkeypatch.setattr("resnet.data.spans.SETTLED", -1.0)  # the files are younger than two seconds
    data_of(*given)
    with monkeypatch.context() as patch:
        patch.setattr(reading, index, lambda *_: pytest.fail("read again"))
        assert data_of(*given).digests == before
    if made is as_tars:
        write_tar("tars/001.tar", PICTURES[10:19])
    else:
        write_parquet("parquet/train-1-of-3.parquet", ROWS[15:29], ["cat", "dog"])
    assert data_of(*given).digests != before
    for kept in Path("cache/resnet-lab/indexes").glob("*.npz"):
        kept.write_bytes(b"damaged")
    data_of(*given)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("a.png", picture(0))], "s.tar: a has no label; it needs a .cls, a .json with a label, or a folder of its class"),
        ([("a.png", picture(0)), ("a.jpg", picture(1)), ("a.cls", b"0")], r"s.tar: a has several pictures \(png, jpg\); keep one"),
        ([("a.png", picture(0)), ("a.json", b"{")], "s.tar/a.json: no JSON in UTF-8"),
        ([("a.png", picture(0)), ("a.cls", b"\xff")], "s.tar/a.cls: no text in UTF-8"),
        ([("a.cls", b"0")], "no pictures in s.tar"),
        (
            [*samples(range(6)), ("x.cls", b"0"), ("x.png", b"no picture")],
            "1 of 7 pictures cannot be read: s.tar/x.png: truncated, corrupt",
        ),
    ],
)
def test_what_is_wrong_with_a_shard_is_one_line(members, told) -> None:
    write_tar("s.tar", members)
    with pytest.raises(UserError, match=told) as error:
        data_of("data=webdataset", "data.path=s.tar")
    assert "\n" not in str(error.value)


def test_pictures_that_cannot_be_read_are_left_out() -> None:
    write_tar("s.tar", [*samples(range(30)), ("x.cls", b"0"), ("x.png", b"no picture")])
    data = data_of("data=webdataset", "data.path=s.tar", "data.on_bad_file=skip")
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 30 and "s.tar/x.png" in data.unreadable[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data=webdataset data.path=none", "data.path=none: none: no such file"),
        ("data=webdataset data.path=empty", "data.path=empty: no .tar files there; give their folder, or a pattern"),
        ("data=webdataset data.path=cut.tar", "cut.tar: truncated"),
        ("data=webdataset data.path=packed.tar", "packed.tar: truncated, or no uncompressed tar file .*; pictures in .tar.gz cannot"),
        ("data=webdataset data.path=parts", "data.path=parts: parts/b.tar has none of train, val, test in its name, and others have"),
        ("data=webdataset data.path='parts/test-0.tar'", "data.path=parts/test-0.tar: test but no train in the name of any file"),
        ("data=webdataset data.path=lacks", "data.path=lacks: test has label 2, which train lacks"),
        ("data=webdataset", "data.path=null: data=webdataset needs the path of your own data"),
        ("data=parquet data.path=empty", "data.path=empty: no .parquet files there"),
        ("data=parquet data.path=cut.parquet", "cut.parquet: truncated, corrupt or no Parquet file"),
        ("data=parquet data.path=p data.image_column=img", r"p/a.parquet: no column img; it has image, label \(data.image_column"),
        ("data=parquet data.path=nothing.parquet", "nothing.parquet: row 1 has nothing for a picture and int for a label"),
    ],
)
def test_what_is_wrong_with_a_set_of_shards_is_one_line(given, told) -> None:
    Path("empty").mkdir()
    write_tar("whole.tar", samples(range(6)))
    Path("cut.tar").write_bytes(Path("whole.tar").read_bytes()[:1500])
    with tarfile.open("packed.tar", "w:gz"):
        pass
    for name in ("train-0", "test-0", "b"):
        write_tar(f"parts/{name}.tar", samples(range(6)))
    write_tar("lacks/train.tar", [member for member in samples(range(6)) if member[0][2:8] not in ("000002", "000005")])
    write_tar("lacks/test.tar", samples(range(6)))
    if "parquet" in given:
        write_parquet("p/a.parquet", ROWS)
        write_parquet("nothing.parquet", [ROWS[0], (None, 1)])
        Path("cut.parquet").write_bytes(Path("p/a.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match=told) as error:
        data_of(*given.split())
    assert "\n" not in str(error.value)


def test_parquet_that_is_not_installed_is_one_line(monkeypatch) -> None:
    given = as_parquet()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"the package pyarrow is not installed; pip install -e '\.\[datasets\]'"):
        data_of(*given)


@pytest.mark.slow
def test_a_run_on_shards_goes_on_in_the_middle_as_on_files() -> None:
    quick = (
        "scheduler=constant",
        "model=resnet",
        "model.layers=[1]",
        "model.width=4",
        "batch_size=6",
        "epochs=2",
        "wandb=disabled",
        "fabric=cpu",
        "data.cache_gb=0",
        *SETTINGS,
    )
    as_folder()
    given = as_tars()
    resnet.train([*given, *quick, "name=parts", "max_steps=3"])
    runs = [resnet.train([*given, *quick, "name=parts", "max_steps=7"])]
    runs += [resnet.train([*given, *quick, "name=whole", "max_steps=7"])]
    runs += [resnet.train(["data=folder", "data.path=folder", *quick, "name=folder", "max_steps=7"])]
    parts, whole, folder = (torch.load(run.directory / "checkpoints/last.pt", weights_only=True)["model"] for run in runs)
    assert all(torch.equal(parts[name], whole[name]) and torch.equal(folder[name], whole[name]) for name in whole)
