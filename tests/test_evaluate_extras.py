"""What `evaluate` does besides the scores: temperature, averaging over views, ensembles."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import call

from resnet.analysis.answering import Answering
from resnet.analysis.averaging import Averaged
from resnet.analysis.evaluate import evaluate
from resnet.analysis.extras import Extras
from resnet.analysis.options import runs_and_overrides
from resnet.analysis.predict import predict
from resnet.analysis.saved import load_data, open_run
from resnet.analysis.temperature import calibration, fit_temperature, saved_temperature
from resnet.config import UserError


@pytest.fixture
def run(small_runs, tmp_path):
    """A copy of a run, to write into."""
    return open_run(shutil.copytree(small_runs[0], tmp_path / "run"))


def calibrated(number=4000):
    """Logits, and labels drawn from their probabilities."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(number, 5, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_the_factor_of_calibrated_logits(factor) -> None:
    logits, labels = calibrated()
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.1)
    if factor == 3:
        before, after = calibration(factor * logits, labels), calibration(logits, labels)
        assert after["loss"] < before["loss"] and after["calibration_error"] < 0.3 * before["calibration_error"]


def test_images_that_are_all_right_fit_no_temperature() -> None:
    with pytest.raises(UserError, match="hold out more images"):
        fit_temperature(torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5))


def test_a_temperature_comes_from_the_held_out_images_and_reaches_predict_and_onnx(run, tmp_path) -> None:
    path = run.directory.path
    found = evaluate(run, extras=Extras(temperature=True))["temperature"]
    data, answering = load_data(run), Answering(run)
    assert found["value"] == pytest.approx(fit_temperature(answering.logits(data.val), data.val.labels))
    assert found["held_out_images"] == 200 and found["after"]["loss"] < found["before"]["loss"]
    assert saved_temperature(run, answering.file, answering.step) == found["value"]
    assert saved_temperature(run, answering.file, answering.step + 1) is None  # of other weights
    from PIL import Image

    Image.fromarray(data.test.images[0, 0].numpy()).save(tmp_path / "a.png")
    (row,) = predict(run, [tmp_path / "a.png"])
    expected = (answering.logits(data.test)[0].double() / found["value"]).softmax(0)
    assert list(row["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    onnxruntime = pytest.importorskip("onnxruntime")
    from resnet.analysis.export import export

    written = export(run, ["onnx"], None, tmp_path / "out")
    session = onnxruntime.InferenceSession(written["written"]["onnx"]["file"], providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"images": data.test.images[:5].numpy()})
    scaled = (torch.from_numpy(logits) / found["value"]).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, scaled, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["temperature"]) == written["temperature"] == found["value"]
    (path / "temperature.json").write_text(json.dumps({"temperature": 0, "checkpoint": answering.file, "step": answering.step}))
    with pytest.raises(UserError, match=r"temperature\.json: cannot be read \(temperature: a finite number above 0"):
        saved_temperature(run, answering.file, answering.step)


def test_a_temperature_is_fitted_on_held_out_images_alone(run) -> None:
    with pytest.raises(UserError, match="fitted on the held-out images"):
        evaluate(run, "val", extras=Extras(temperature=True))
    without = open_run(run.directory.path, ["data.val_size=0"])
    with pytest.raises(UserError, match="never fitted on test images"):
        evaluate(without, extras=Extras(temperature=True))


def test_averaging_is_the_mean_probability_over_the_views() -> None:
    class Corner(torch.nn.Module):
        """Sees one pixel, so that its answers tell the views apart."""

        def forward(self, images):
            return torch.stack([images[:, 0, 0, 0], 0 * images[:, 0, 0, 0]], 1)

    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    flipped = Averaged(Corner(), ["flip"])(image).exp()[0, 0]
    assert float(flipped) == pytest.approx(torch.tensor([0.0, 2.0]).sigmoid().mean().item())  # the left corner and the right one
    shifted = Averaged(Corner(), ["shift"])(image).exp()[0, 0]
    assert float(shifted) == pytest.approx(torch.tensor([0.0, 0.0, 3.0, 0.0, 1.0]).sigmoid().mean().item())  # edges repeat
    assert Averaged(Corner(), ["flip", "shift"])(image).exp().sum() == pytest.approx(1)


def test_an_ensemble_is_the_mean_probability_of_its_members(small_runs) -> None:
    runs = [open_run(path) for path in small_runs]
    report = evaluate(runs)
    test = load_data(runs[0]).test
    mean = torch.stack([Answering(run).logits(test).softmax(1) for run in runs]).mean(0)
    assert report["accuracy"]["value"] == pytest.approx(float((mean.argmax(1) == test.labels).double().mean()))
    assert report["loss"]["value"] == pytest.approx(float(-mean[torch.arange(len(test)), test.labels].log().mean()), rel=1e-4)
    members = [row["accuracy"]["value"] for row in report["ensemble"]]
    assert members == [pytest.approx(run.summary["test"]["accuracy"]) for run in runs]


def test_runs_on_other_images_or_classes_are_no_ensemble(small_runs, run) -> None:
    summary = json.loads((run.directory.path / "summary.json").read_text())
    for key, changed, told in (
        ("classes", [f"c{number}" for number in range(10)], "an ensemble needs the classes of"),
        ("digests", {**summary["data"]["digests"], "test": "0" * 64}, "an ensemble needs the test images of"),
    ):
        (run.directory.path / "summary.json").write_text(json.dumps({**summary, "data": {**summary["data"], key: changed}}))
        with pytest.raises(UserError, match=told):
            evaluate([open_run(small_runs[0]), open_run(run.directory.path)])


def test_the_command_takes_runs_sweeps_and_overrides(small_runs, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(small_runs[0].parent)
    assert runs_and_overrides(["seed0", "data.root=x"]) == ([small_runs[0].relative_to(small_runs[0].parent)], ["data.root=x"])
    assert len(runs_and_overrides([str(small_runs[0].parent)])[0]) == 2  # the folder of both
    with pytest.raises(UserError, match="a run directory is needed before it"):
        runs_and_overrides(["data.root=x"])


@pytest.mark.slow
def test_the_command_shows_all_of_it(small_runs, tmp_path) -> None:
    both = [str(shutil.copytree(path, tmp_path / path.name)) for path in small_runs]
    shown = call(tmp_path, "-m", "resnet", "evaluate", *both, "--average", "flip,shift", "--limit", "80").stdout
    assert "2 runs together, on 80 test images" in shown and "mean probability over flip and shift" in shown and "member" in shown
    more = ("--corruptions", "fog,contrast", "--attack", "fgsm", "--eps", "8/255,0.1", "--temperature")
    shown = call(tmp_path, "-m", "resnet", "evaluate", both[0], *more).stdout
    assert all(text in shown for text in ("accuracy at severity", "fgsm", "8/255", "25.5/255", "temperature.json", "calibration error"))
    told = json.loads(call(tmp_path, "-m", "resnet", "evaluate", both[0], *more, "--json").stdout)
    assert {"corruptions", "attacks", "temperature", "never_predicted"} <= told.keys()
    for wrong, message in (
        (("--eps", "8/255"), "--eps is for attacks; add --attack pgd"),
        (("--attack", "pgd", "--eps", "x"), "--eps x: fractions or numbers"),
        (("--average", "zoom"), "average=zoom: no such choice; choose of flip, shift"),
    ):
        assert message in call(tmp_path, "-m", "resnet", "evaluate", both[0], *wrong, status=2).stderr
