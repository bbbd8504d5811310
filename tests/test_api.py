"""resnet.train, resnet.load and resnet.runs: what the commands do, from Python."""

import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from PIL import Image

import resnet
from resnet.config import UserError

SMALL = ("data=digits", "model.layers=[1]", "model.width=8", "max_steps=30", "wandb=disabled")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("api"))
        yield resnet.train([*SMALL, "name=a"])


def test_a_training_can_be_called_and_goes_on_where_it_ended(trained) -> None:
    assert trained.summary["status"] == "finished" and trained.directory.path.parts[-2:] == ("outputs", "a")
    assert resnet.train([*SMALL, "name=a"]).summary == trained.summary


@pytest.mark.slow
def test_a_loaded_model_answers_as_evaluate_says(trained) -> None:
    from resnet.analysis.saved import load_data

    model, preprocessing, classes = resnet.load(trained.directory.path)
    test = load_data(trained).test
    with torch.no_grad():
        answers = model(preprocessing(test.images)).argmax(1)
    assert float((answers == test.labels).double().mean()) == pytest.approx(trained.summary["test"]["accuracy"], abs=2 / len(test))
    assert classes == [str(number) for number in range(10)]


def test_a_loaded_model_takes_pictures_and_files(trained, tmp_path) -> None:
    model, preprocessing, _ = resnet.load(trained.directory.path)
    picture = Image.effect_noise((40, 30), 90).convert("RGB")
    picture.save(tmp_path / "a.png")
    of_file, of_picture = preprocessing(tmp_path / "a.png"), preprocessing([picture, picture])
    assert of_file.shape == (1, 1, 8, 8) and torch.equal(of_picture[0], of_file[0]) and model(of_picture).shape == (2, 10)


def test_runs_are_a_table(trained) -> None:
    (row,) = as_rows(resnet.runs())
    best = trained.summary["best"]
    assert (row["status"], row["model.width"], row["seed"]) == ("finished", 8, 0)
    assert (row["val/accuracy"], row["best_step"]) == (best["val/accuracy"], best["step"])
    assert row["test/accuracy"] == trained.summary["test"]["accuracy"]


def as_rows(table):
    return table if isinstance(table, list) else table.to_dict("records")


def test_a_run_is_evaluated_explained_and_embedded(trained, tmp_path) -> None:
    path, told = trained.directory.path, trained.summary["test"]
    report = resnet.evaluate(path, average=["flip"], limit=100)
    assert report["number"] == 100 and report["averaged"]["views"] == ["flip"]
    assert resnet.evaluate(path)["accuracy"]["value"] == pytest.approx(told["accuracy"])
    Image.effect_noise((8, 8), 90).save(tmp_path / "a.png")
    (row,) = resnet.explain(path, tmp_path / "a.png", neighbours=1, folder=tmp_path / "out")
    assert row["picture"] == str(tmp_path / "out" / "a.png") and len(row["nearest"]) == 1
    assert resnet.features(path, output=tmp_path / "f.npz")["output"] == str(tmp_path / "f.npz")
    with pytest.raises(UserError, match="average=zoom"):
        resnet.evaluate(path, average=["zoom"])


def test_mistakes_are_one_line_each(trained, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"^model\.width=0: out of range; it must be at least 1$"):
        resnet.train([*SMALL, "model.width=0"])
    with pytest.raises(UserError, match=r"^loss=5: no such option"):
        resnet.train([*SMALL, "loss=5"])
    with pytest.raises(UserError, match="no run directory"):
        resnet.load(tmp_path)
    with pytest.raises(UserError, match="no run in it"):
        resnet.runs(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="outputs: no run in it"):
        resnet.runs()


def test_importing_it_imports_no_torch() -> None:
    program = "import resnet, sys; assert {'train', 'load', 'runs'} <= set(dir(resnet)); resnet.train; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
