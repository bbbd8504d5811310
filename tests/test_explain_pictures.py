"""`explain` and `features`: Grad-CAM against captum's, nearest images, and what features tell of the classes."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import call
from PIL import Image
from torch import nn

import resnet
from resnet.analysis.answering import Answering
from resnet.analysis.embed import embed
from resnet.analysis.explaining import explain
from resnet.analysis.features import features
from resnet.analysis.gradcam import find_section, grad_cam
from resnet.analysis.probing import Labelled, probe
from resnet.analysis.saved import load_data, open_run
from resnet.config import UserError


@pytest.fixture
def run(small_runs, tmp_path):
    """A copy of a run, to write into."""
    return open_run(shutil.copytree(small_runs[0], tmp_path / "run"))


@pytest.fixture
def pictures(run, tmp_path):
    """Six test images, each in the folder of its class."""
    test = load_data(run).test
    files = [tmp_path / "pictures" / str(int(test.labels[row])) / f"{row}.png" for row in range(6)]
    for row, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.images[row, 0].numpy()).save(file)
    return files


class Quadrants(nn.Module):
    """Class k sees the k-th channel of the maps, which lights up in one quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.maps.weight, 1.0)
        self.head.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])

    def forward(self, images):
        return self.head(torch.relu_(self.maps(images)).flatten(2).mean(2))


def test_the_map_shows_what_raises_the_score() -> None:
    model, image = Quadrants(), torch.zeros(1, 1, 4, 4)
    image[..., :2, :2] = 1
    lit = grad_cam(model, model.maps, image, torch.tensor([0]))[0]
    assert torch.equal(lit > 0, image[0, 0] > 0)
    assert not grad_cam(model, model.maps, image, torch.tensor([1])).any()  # where it only lowers the score


def test_it_is_captums(run) -> None:
    attr = pytest.importorskip("captum.attr")
    answering = Answering(run)
    (batch,) = (images for images, *_ in answering.loader(load_data(run).test.subset(np.arange(5))).epoch())
    for name in ("stages.0", "stages.1"):
        section = answering.network.get_submodule(name)
        ours = grad_cam(answering.differentiable, section, batch, torch.arange(5))
        theirs = attr.LayerGradCam(answering.network, section).attribute(batch, torch.arange(5), relu_attributions=True)[:, 0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_last_section_with_maps_is_explained() -> None:
    model, images = Quadrants(), torch.ones(2, 1, 4, 4)
    assert find_section(model, model, images, None)[0] == "maps"
    with pytest.raises(UserError, match=r"section=map: no such part of the network \(did you mean maps\?\)"):
        find_section(model, model, images, "map")
    with pytest.raises(UserError, match="section=head: its output has no feature maps"):
        find_section(model, model, images, "head")


def test_pictures_are_explained(run, pictures) -> None:
    (pictures[0].parent / "bad.png").write_bytes(b"no image")
    rows = explain(run, [pictures[0].parent, *pictures[1:3]], neighbours=3)
    told = {row["file"]: row for row in rows}
    assert "truncated, corrupt" in told[str(pictures[0].parent / "bad.png")]["error"]
    for file in pictures[:3]:
        row = told[str(file)]
        assert row["section"] == "stages.1" and row["class"] == max(row["probabilities"], key=row["probabilities"].get)
        assert len(row["nearest"]) == 3 and row["nearest"][0]["likeness"] >= row["nearest"][2]["likeness"]
        with Image.open(row["picture"]) as picture:
            assert picture.size[0] > 800
    (row,) = explain(run, pictures[:1], class_name="3", section="stages.0", neighbours=0, folder=run.directory / "other")
    assert (row["class"], row["section"], row["nearest"]) == ("3", "stages.0", []) and (run.directory / "other" / "0.png").exists()
    with pytest.raises(UserError, match="class=11: no such class"):
        explain(run, pictures[:1], class_name="11")


def test_a_training_image_is_its_own_nearest(run, tmp_path) -> None:
    train = load_data(run).train
    Image.fromarray(train.images[7, 0].numpy()).save(tmp_path / "a.png")
    (row,) = explain(run, [tmp_path / "a.png"], neighbours=1)
    assert row["nearest"][0]["number"] == 7 and row["nearest"][0]["likeness"] == pytest.approx(1, abs=1e-4)
    again = explain(run, [tmp_path / "a.png", tmp_path / "a.png"], neighbours=0)
    assert len({one["picture"] for one in again}) == 2  # files of one name do not overwrite each other


def test_features_are_what_the_last_layer_sees(run) -> None:
    answering, test = Answering(run), load_data(run).test
    seen = features(answering, test, "features")
    torch.testing.assert_close(answering.network.head[-1](seen.features), seen.logits)
    torch.testing.assert_close(seen.logits, answering.logits(test), atol=1e-4, rtol=1e-4)


def test_features_are_written_and_judged(run, pictures, tmp_path) -> None:
    report = embed(run, output=tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as file:
        assert file["x_train"].shape == (1238, 16) and file["y_test"].shape == (359,) and file["x_val"].dtype == np.float32
        assert file["classes"].tolist() == run.classes
    assert report["network"]["value"] == pytest.approx(run.summary["test"]["accuracy"], abs=2 / 359)
    assert min(report["neighbours"]["accuracy"]["value"], report["linear"]["accuracy"]["value"]) > report["network"]["value"] - 0.05
    loose = tmp_path / "loose.png"
    shutil.copy(pictures[0], loose)
    own = embed(run, [pictures[0].parent.parent, loose], tmp_path / "own.npz")
    with np.load(tmp_path / "own.npz") as file:
        assert [str(path) in file["files_own"] for path in (*pictures, loose)] == [True] * 7 and file["y_own"][-1] == -1
    assert (own["judged_on"], own["labelled"]) == ("own", 6)
    assert "network" not in embed(run, [loose])
    with pytest.raises(UserError, match=r"ends in \.npz"):
        embed(run, output=tmp_path / "features.csv")


def test_probes_find_what_features_tell() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    told = np.stack([labels + 0.1 * rng.standard_normal(200), rng.standard_normal(200)], 1).astype(np.float32)
    part = Labelled(told, labels)
    found = probe(part, None, part)
    assert found["linear"]["accuracy"]["value"] > 0.98
    noise = Labelled(rng.standard_normal((200, 2)).astype(np.float32), labels)
    assert probe(noise, noise, Labelled(noise.features[::-1].copy(), labels))["linear"]["accuracy"]["value"] < 0.7


def test_a_foreign_network_is_explained_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_network.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = resnet.train(["data=digits", "model._target_=own_network.Small", "max_steps=5", "wandb=disabled", "name=a"])
    Image.fromarray(load_data(run).test.images[0, 0].numpy()).save(tmp_path / "a.png")
    (row,) = explain(run, [tmp_path / "a.png"], neighbours=2)
    assert row["section"] == "second" and len(row["nearest"]) == 2
    assert embed(run)["features"] == 6


FOREIGN = """
from torch import nn


class Small(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(in_channels, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3)
        self.pool, self.classify = nn.AdaptiveAvgPool2d(1), nn.Linear(6, num_classes)

    def forward(self, images):
        return self.classify(self.pool(self.act(self.second(self.act(self.first(images))))).flatten(1))
"""


@pytest.mark.slow
def test_the_commands(run, pictures, tmp_path) -> None:
    path = run.directory.path
    shown = call(tmp_path, "-m", "resnet", "explain", path, pictures[0], "--class", "3", "--nearest", "2").stdout
    assert f"{path}/explain/0.png" in shown and "nearest training images" in shown
    shown = call(tmp_path, "-m", "resnet", "features", path, "--output", "features.npz").stdout
    assert all(text in shown for text in ("the network itself", "nearest neighbours, k=", "linear probe, C=", "features: features.npz"))
    told = json.loads(call(tmp_path, "-m", "resnet", "features", path, "--images", pictures[0].parent, "--json").stdout)
    assert told["judged_on"] == "own" and told["images"]["own"] == told["labelled"]
    (row,) = json.loads(call(tmp_path, "-m", "resnet", "explain", path, pictures[0], "--json").stdout)
    assert {"picture", "class", "probabilities", "nearest"} <= row.keys()
