"""Sources, splits and loaders, on real digits, real MNIST where it is there, and the user's own files."""

import gzip
import hashlib
import os
import pickle
import signal
import struct
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import compose, real_data
from PIL import Image
from test_resume import finish, start, wait_for
from torchvision.transforms.v2 import TrivialAugmentWide

from resnet.build_data import build_data
from resnet.config import UserError
from resnet.data import Augment, Loader
from resnet.data.augment import Crop, Flip, Mixup, Progressive
from resnet.data.splits import balanced_subset, stratified_split


def digits(*overrides):
    return build_data(compose("data=digits", *overrides))


def loader(data, augment=None, **settings):
    settings = {"batch_size": 100, "shuffle": True, "mean": data.mean, "std": data.std, "num_classes": len(data.classes), **settings}
    return Loader(data.train, augment=augment or Augment([Crop(pad=1)]), **settings)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    data, theirs = digits("data.val_size=0"), load_digits()
    pixels = torch.cat([data.train.images, data.test.images]).double().flatten(1) * 16 / 255
    ours = torch.cat([pixels.round(), torch.cat([data.train.labels, data.test.labels])[:, None]], 1)
    assert sorted(map(tuple, ours.tolist())) == sorted((*image, label) for image, label in zip(theirs.data, theirs.target, strict=True))
    assert len(data.test) == 359


def test_splits_follow_split_seed_and_not_seed() -> None:
    first, other_seed, other_split = digits(), digits("seed=7"), digits("data.split_seed=1")
    assert torch.equal(first.test.images, other_seed.test.images)
    assert torch.equal(first.val.images, other_seed.val.images)
    assert not torch.equal(first.test.images, other_split.test.images)


def test_held_out_split_is_stratified_and_disjoint() -> None:
    labels = np.repeat(np.arange(4), [400, 300, 200, 100])
    rest, held_out = stratified_split(labels, 100, seed=3)
    assert np.bincount(labels[held_out]).tolist() == [40, 30, 20, 10]
    assert sorted([*rest, *held_out]) == list(range(1000))


def test_train_size_is_class_balanced() -> None:
    labels = np.repeat(np.arange(4), [400, 300, 200, 100])
    counts = np.bincount(labels[balanced_subset(labels, 202, seed=0)])
    assert counts.sum() == 202 and counts.max() - counts.min() <= 1


def test_statistics_are_of_the_training_split() -> None:
    data = digits()
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()])
    assert data.std == pytest.approx([pixels.std(correction=0).item()])


def test_images_grow_with_the_training() -> None:
    grown = loader(digits(), Augment([Crop(pad=1), Progressive([4, 6])]), total_batches=30)  # of 39
    sizes = [batch.images.shape[-1] for epoch in range(3) for batch in grown.epoch(epoch)]
    assert len(grown) == 13 and sizes == [4] * 10 + [6] * 10 + [8] * 19
    assert torch.equal(next(grown.epoch(1, start=9)).images, [*grown.epoch(1)][9].images)


def test_each_image_comes_once_an_epoch_in_a_new_order() -> None:
    data = digits()
    plain = loader(data, Augment())
    epochs = [torch.cat([torch.cat([b.images.flatten(1), b.targets[:, None]], 1) for b in plain.epoch(epoch)]) for epoch in (0, 1)]
    assert len(epochs[0]) == len(data.train)
    own = torch.cat([(data.train.images / 255 - data.mean[0]).div(data.std[0]).flatten(1), data.train.labels[:, None]], 1)
    order = [sorted(range(len(rows)), key=rows.tolist().__getitem__) for rows in (own, epochs[0])]
    torch.testing.assert_close(own[order[0]], epochs[0][order[1]], check_dtype=False)  # each with its own label
    assert sorted(map(tuple, epochs[0].tolist())) == sorted(map(tuple, epochs[1].tolist()))
    assert not torch.equal(epochs[0], epochs[1])


def test_any_position_can_be_reached_again() -> None:
    one, other = (loader(digits(), seed=5) for _ in range(2))
    whole = list(one.epoch(3))
    tail = list(other.epoch(3, start=9))
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[9:], tail, strict=True))


@pytest.mark.parametrize("augment", [Augment([Crop(pad=1), Flip(0.5)]), Augment([Mixup(0.5)]), Augment([TrivialAugmentWide()])])
def test_processes_share_the_global_batch(augment) -> None:
    data = digits()
    whole = next(loader(data, augment).epoch())
    shares = [next(loader(data, augment, rank=rank, world_size=2).epoch()) for rank in range(2)]
    for rank, share in enumerate(shares):
        assert torch.equal(share[0], whole[0][rank::2]) and torch.equal(share[1], whole[1][rank::2])


def test_a_last_batch_too_small_to_share_is_everyone_s_and_counted_once() -> None:
    data = digits()
    size = next(size for size in range(20, 200) if len(data.train) % size == 2)
    whole, *shares = (
        list(loader(data, batch_size=size, rank=rank, world_size=processes).epoch()) for rank, processes in ((0, 1), (0, 2), (1, 2))
    )
    assert len(whole[-1].images) == 2 and len(whole) == len(shares[0]) == len(shares[1])
    assert all(torch.equal(share[-1].images, whole[-1].images) for share in shares)
    assert [share[-1].is_copy for share in shares] == [False, True]


def write_digits(folder, count=60) -> None:
    data = digits()
    for part in ("train", "test"):
        for index, (image, label) in enumerate(zip(data.train.images[:count], data.train.labels[:count], strict=True)):
            path = folder / part / str(int(label)) / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)


def test_files_give_the_same_batches_as_memory(tmp_path) -> None:
    write_digits(tmp_path)
    common = ("data=folder", f"data.path={tmp_path}", "data.channels=1")
    memory, files = (build_data(compose(*common, f"data.cache_gb={size}")) for size in (1, 0))
    assert isinstance(memory.train.images, torch.Tensor) and not isinstance(files.train.images, torch.Tensor)
    assert memory.mean == files.mean
    random = torch.get_rng_state()
    batches = [list(loader(sets, Augment(), workers=2, seed=1).epoch(2)) for sets in (memory, files)]
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))
    assert torch.equal(torch.get_rng_state(), random)  # those of dropout, which would differ after a resume


@pytest.mark.slow
def test_a_signal_to_the_processes_that_decode_too_lets_the_run_save(tmp_path) -> None:
    """As a cluster sends it, or a terminal's Ctrl-C: to all processes of the run."""
    write_digits(tmp_path / "images", 1000)
    own = ("data=folder", "data.path=images", "data.channels=1", "data.cache_gb=0", "batch_size=2", "checkpoint.every_steps=5")
    process = start(tmp_path, *own, "model.layers=[1]", "log_every=1", "name=a", start_new_session=True)
    wait_for((tmp_path / "outputs" / "a" / "checkpoints" / "last.pt").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    assert "interrupted by SIGTERM; its checkpoint of step" in finish(process, 75)


def test_photos_are_read_the_way_up_that_they_were_taken_and_on_white(tmp_path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255  # black above, nothing below
    photo = Image.fromarray(pixels)
    upside_down = photo.getexif()
    upside_down[0x0112] = 3
    for label in "ab":
        (tmp_path / label).mkdir()
        for index in range(5):
            photo.save(tmp_path / label / f"{index}.png", exif=upside_down)
    image = build_data(compose("data=folder", f"data.path={tmp_path}", "data.val_size=0")).train.images[0]
    assert image[:, :4].min() == 255 and image[:, 4:].max() == 0


def test_mnist_reads_what_torchvision_reads() -> None:
    real_data("MNIST", "raw", "t10k-labels-idx1-ubyte")
    from conftest import ROOT
    from torchvision.datasets import MNIST

    data = build_data(compose("data.val_size=0", f"data.root={ROOT / 'data'}"))
    theirs = MNIST(str(ROOT / "data"), train=False)
    assert torch.equal(data.test.images[:, 0], theirs.data) and torch.equal(data.test.labels, theirs.targets)
    assert len(data.train) == 60_000


def test_a_corrupt_image_is_named(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "b" / "3.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"b/3\.png: truncated, corrupt or not an image"):
        build_data(compose("data=folder", f"data.path={tmp_path}"))


@pytest.mark.parametrize(
    ("name", "folder", "labels", "num_classes"),
    [
        ("cifar10", "cifar-10-batches-py", b"labels", 10),
        ("cifar100", "cifar-100-python", b"fine_labels", 100),
    ],
)
def test_cifar_is_read_in_torchvisions_layout(tmp_path, monkeypatch, name, folder, labels, num_classes) -> None:
    """Made-up files in the published layout, under their own checksums."""
    from torchvision import datasets

    kind = getattr(datasets, name.upper())
    sums, pixels = {}, {}
    (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for file, _ in [*kind.train_list, *kind.test_list, [kind.meta["filename"], ""]]:
        pixels[file] = rng.integers(0, 256, (2 * num_classes, 3072), dtype=np.uint8)
        names = {kind.meta["key"]: [f"class {label}" for label in range(num_classes)]}
        content = names if file == kind.meta["filename"] else {b"data": pixels[file], labels: [*range(num_classes)] * 2}
        content = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        (tmp_path / folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((tmp_path / folder / file).read_bytes()).hexdigest()
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(kind, part, [[file, sums[file]] for file, _ in getattr(kind, part)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    data = build_data(compose(f"data={name}", f"data.root={tmp_path}", "data.val_size=0"))
    expected = np.concatenate([pixels[file] for file, _ in kind.train_list]).reshape(-1, 3, 32, 32)
    assert torch.equal(data.train.images, torch.from_numpy(expected))
    assert data.train.labels.tolist() == [*range(num_classes)] * 2 * len(kind.train_list)
    assert len(data.classes) == num_classes and data.classes[3] == "class 3"
    (tmp_path / folder / kind.train_list[0][0]).write_bytes(b"cut short")
    with pytest.raises(UserError, match="truncated or corrupt"):
        build_data(compose(f"data={name}", f"data.root={tmp_path}", "data.val_size=10"))  # not the set that was read already


class SlowServer(SimpleHTTPRequestHandler):
    served: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.headers["Method"] != "HEAD":  # torchvision's way to ask for redirections
            self.served.append(self.path)
        time.sleep(0.5)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def small_mnist(folder) -> list[tuple[str, str]]:
    """The four packed files with a hundred images each, and their checksums."""
    resources = []
    for part in ("train", "t10k"):
        for name, sizes in ((f"{part}-images-idx3-ubyte", (100, 28, 28)), (f"{part}-labels-idx1-ubyte", (100,))):
            values = np.arange(np.prod(sizes)) % 10
            packed = gzip.compress(struct.pack(f">4B{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + values.astype(np.uint8).tobytes())
            (folder / f"{name}.gz").write_bytes(packed)
            resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    return resources


@pytest.mark.full
def test_runs_that_start_at_once_download_once(tmp_path, monkeypatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    resources = small_mnist(source)
    SlowServer.served.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: SlowServer(*arguments, directory=str(source))) as server:
        threading.Thread(target=server.serve_forever).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        (tmp_path / "sitecustomize.py").write_text(
            f"import torchvision\ntorchvision.datasets.MNIST.mirrors = [{mirror!r}]\ntorchvision.datasets.MNIST.resources = {resources}\n"
        )
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        arguments = ("data=mnist", "data.val_size=20", "epochs=1", "model.layers=[1]")
        outputs = [finish(process) for process in [start(tmp_path, *arguments, f"name={name}") for name in "abc"]]
        server.shutdown()
    assert sorted(SlowServer.served) == sorted(f"/{name}" for name, _ in resources)
    assert sum("Downloading mnist" in output for output in outputs) == 1
    assert not (tmp_path / "data" / ".MNIST.part").exists()


def test_some_classes_alone() -> None:
    whole, some = (build_data(compose("data=digits", "data.val_size=0", *more)) for more in ((), ("data.only=[7,2]",)))
    assert some.classes == ["7", "2"]
    for split, of_all in ((some.train, whole.train), (some.test, whole.test)):
        chosen = torch.isin(of_all.labels, torch.tensor([2, 7]))
        assert torch.equal(split.images, of_all.images[chosen])
        assert torch.equal(split.labels, (of_all.labels[chosen] == 2).long())
    for wrong, told in (("[7,x]", "data.only: x: no such class"), ("[7]", "at least two classes"), ("[7,7]", "each once")):
        with pytest.raises(UserError, match=told):
            build_data(compose("data=digits", f"data.only={wrong}"))


def test_a_few_arrays_without_a_test_set_give_one_image_of_each_class(tmp_path) -> None:
    np.savez(tmp_path / "few.npz", x_train=np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), y_train=[0, 1, 0, 1])
    data = build_data(compose("data=arrays", f"data.path={tmp_path}/few.npz"))
    assert sorted(data.train.labels.tolist()) == sorted(data.test.labels.tolist()) == [0, 1] and data.val is None
