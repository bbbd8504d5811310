"""A model, or a part of one, from a file outside the package: trained, resumed bit for bit, described, evaluated, exported, compared."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, call
from sklearn.datasets import load_digits
from test_run import summary
from torch import nn

import resnet
from resnet.analysis.describe import describe
from resnet.analysis.evaluate import evaluate
from resnet.analysis.export import export
from resnet.analysis.saved import load_model, open_run
from resnet.build_data import build_data
from resnet.build_model import build_model, trial
from resnet.config import UserError, load_config
from resnet.config.cli import compose_config
from resnet.config.hashing import completed
from resnet.config.names import BLOCKS
from resnet.facts import count_flops, model_line
from resnet.models.facts import WHOLE, receptive_fields, sections
from resnet.models.weights import WeightsError, fit_weights
from resnet.sweeps.grid import compose_jobs, differing, read_sweep
from resnet.sweeps.preflight import preflight

LAB = '''
from typing import Annotated, Literal

import torch
from torch import nn

from resnet.models.blocks import Block


class SEBlock(Block):
    """With squeeze and excitation inside its residual branch."""

    def make_residual(self, in_channels, width, stride, layers):
        return super().make_residual(in_channels, width, stride, layers).append(Excitation(width))


class Excitation(nn.Module):
    def __init__(self, channels: int, reduction: Annotated[int, {"at_least": 1}] = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x):
        return x * self.weigh(x).sigmoid()


class Bare(nn.Module):
    """A block that inherits nothing."""

    def __init__(self, in_channels, width, stride, layers, drop_probability):
        super().__init__()
        self.out_channels = width
        self.conv = layers.conv(in_channels, width, 3, stride)
        self.shortcut = layers.shortcut(in_channels, width, stride)

    def forward(self, x):
        return self.conv(x) + self.shortcut(x)


def average(in_channels, out_channels, stride, layers):
    """The shortcut of ResNet-D: a mean of the pixels, then a 1x1 convolution that has no stride."""
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, layers.conv(in_channels, out_channels, 1), layers.norm(out_channels))


def large(in_channels, width, layers):
    return nn.Sequential(layers.conv(in_channels, width, 5), layers.norm(width), layers.activation(), nn.MaxPool2d(2))


class Net(nn.Module):
    def __init__(
        self, in_channels: int, num_classes: int, depth: Annotated[int, {"at_least": 1}] = 2, act: Literal["relu", "gelu"] = "relu"
    ) -> None:
        super().__init__()
        activation = {"relu": nn.ReLU, "gelu": nn.GELU}[act]
        widths = [in_channels, *[8] * depth]
        convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:])]
        self.features = nn.Sequential(*(layer for conv in convs for layer in (conv, activation())))
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


class Positional(Net):
    def __init__(self, colours, kinds):
        super().__init__(colours, kinds)


class Sized(nn.Sequential):
    """That needs the images' size, and values where it is made, which a tensor without memory does not have."""

    def __init__(self, in_channels, num_classes, image_size, share: float = 0.5):
        hidden = int(torch.linspace(4, 8, 2)[1].item())
        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


class Squeezed(Net):
    def forward(self, images):
        return super().forward(images)[:, :5]


def number(in_channels, num_classes):
    return 3


def create_model(model_name: str, pretrained: bool = False, checkpoint_path=None, scriptable=None, **kwargs) -> nn.Module:
    """Called as timm's."""
    return {"net": lambda num_classes, in_chans=3, depth=1: Net(in_chans, num_classes, depth)}[model_name](**kwargs)
'''
QUICK = ("data=digits", "scheduler=constant", "batch_size=32", "data.val_size=40", "wandb=disabled", "fabric=cpu")
SMALL = ("model.layers=[1,1]", "model.width=8")
PARTS = {
    "se_block": ("model.block=own_models.SEBlock", "model.zero_init_residual=true", *SMALL),
    "attention": ("model.attention={_target_:own_models.Excitation,reduction:2}", *SMALL),
    "bare_block": ("model.block=own_models.Bare", *SMALL),
    "shortcut": ("model.shortcut=own_models.average", *SMALL),
    "preact_shortcut": ("model.shortcut=own_models.average", "model.block=preact_basic", *SMALL),
    "stem": ("model.stem=own_models.large", *SMALL),
    "norm": ("model.norm=torch.nn.InstanceNorm2d", "model.activation=torch.nn.Softplus", *SMALL),
    "net": ("model._target_=own_models.Net", "model.depth=3"),
    "positional": ("model._target_=own_models.Positional",),
    "sized": ("model._target_=own_models.Sized",),
    "created": ("model._target_=own_models.create_model", "model.model_name=net", "+model.depth=2"),
}
DEFAULT = ("se_block", "net")  # what the default suite tries


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Path:
    (tmp_path / "own_models.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # where it is remembered what was built
    monkeypatch.syspath_prepend(tmp_path)  # before those of the tests before
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    return tmp_path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.full) for name in PARTS])
def test_it_is_trained_resumed_bit_for_bit_described_evaluated_and_exported(lab, name) -> None:
    chosen = (*QUICK, *PARTS[name])
    resnet.train([*chosen, "max_steps=2", "name=a"])
    resnet.train([*chosen, "max_steps=4", "name=a"])
    whole = resnet.train([*chosen, "max_steps=4", "name=b"])
    parts, at_once = weights(lab / "outputs" / "a"), weights(lab / "outputs" / "b")
    assert parts.keys() == at_once.keys() and all(torch.equal(parts[key], at_once[key]) for key in parts)
    told = describe(compose_config(chosen))
    assert told["parameters"] == whole.summary["parameters"] == sum(stage["parameters"] for stage in told["stages"])
    run = open_run(lab / "outputs" / "b")
    report = evaluate(run, "test")
    assert report["accuracy"]["value"] == whole.summary["test"]["accuracy"]
    model, _, step = load_model(run)
    assert step == 4 and not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    written = export(run, ["safetensors"], None, lab / "out")["written"]["safetensors"]
    assert written["largest_difference"] == 0


def test_a_mistake_in_a_setting_is_one_line(lab) -> None:
    for override, message in {
        "model.depth=0": "model.depth=0: out of range; it must be at least 1",
        "model.act=geluu": "model.act=geluu: no such choice (did you mean gelu?); choose one of relu, gelu",
        "model.dpth=1": "model.dpth: unknown key (did you mean depth?); Net takes depth, act, weights, weights_skip; ",
        "model.depth=many": "model.depth=many: a whole number is needed",
        "model.in_channels=3": "model.in_channels: unknown key",
        "model.weights=[1]": "model.weights=[1]: text, or null, is needed",
    }.items():
        with pytest.raises(UserError) as told:
            resnet.train([*QUICK, "model._target_=own_models.Net", override, "name=a"])
        assert str(told.value).startswith(message) and "\n" not in str(told.value)
    assert not (lab / "outputs" / "a").exists()


MISFITS = {
    "model._target_=own_models.Nett": "model._target_=own_models.Nett: cannot be imported",
    "model.block=own_models.Nett": "model.block=own_models.Nett: cannot be imported",
    "model._target_=own_models.number": "it gives a int; a torch.nn.Module is needed",
    "model._target_=own_models.Squeezed": "give a tensor of shape (2, 5); one score for each class is needed, a tensor of shape (2, 10)",
    "model._target_=torchvision.models.resnet18": "it is made for images of 3 channels, and has no in_channels or in_chans",
    "model._target_=own_models.create_model": "model.model_name: no value; set model.model_name=...",
    "model.block=own_models.Bare model.zero_init_residual=true": "own_models.Bare has no method zero_init_last",
    "model.attention={_target_:own_models.Excitation,reduction:0}": "model.attention.reduction=0: out of range; it must be at least 1",
    "model.stem=conv7x7_pool model.layers=[1,1,1]": "images of 8 pixels, 2 behind the stem, are too small for 3 stages",
}


@pytest.mark.parametrize(("chosen", "message"), MISFITS.items())
def test_what_does_not_fit_is_told_before_anything_is_written(lab, chosen, message) -> None:
    with pytest.raises(UserError) as told:
        resnet.train([*QUICK, *chosen.split(), "name=a"])
    assert message in str(told.value) and "\n" not in str(told.value)
    assert not (lab / "outputs" / "a").exists()


def test_a_target_alone_takes_no_settings_of_the_default_option(lab) -> None:
    assert compose_config(["model._target_=own_models.Net", "model.depth=3"]).model == {
        "_target_": "own_models.Net",
        "depth": 3,
        "weights": None,
        "weights_skip": [],
    }
    ours = compose_config(["model._target_=resnet.models.resnet.ResNet", "model.width=8"]).model
    assert ours == {**compose_config([]).model, "width": 8}
    beside = compose_config(["model=resnet20", "model.width=8"]).model
    assert (beside["layers"], beside["width"]) == ([3, 3, 3], 8)


def test_the_header_names_a_foreign_model_for_what_it_is(lab) -> None:
    config = compose_config(["model._target_=own_models.Net", "model.depth=3"])
    assert model_line(config.model) == "own_models.Net, depth 3"
    ours = compose_config(["model.attention=own_models.Excitation", "model.stem=deep"])
    assert model_line(ours.model).endswith("shortcut projection_3x3, stem deep, attention own_models.Excitation")


def test_sections_are_what_the_model_says_else_its_children(lab) -> None:
    config = compose_config([*QUICK, "model._target_=own_models.Net"])
    model, images = trial(config, build_data(config), (8, 8))
    assert list(sections(model)) == ["features", "head"] and receptive_fields(model) == [None, None]
    assert images.is_meta and count_flops(config, build_data(config), (8, 8)) == 2 * 64 * 9 * (1 * 8 + 8 * 8) + 2 * 8 * 10
    model.sections = lambda: {"first": model.features, "second": model.head}  # type: ignore[assignment]
    assert list(sections(model)) == ["first", "second"] and receptive_fields(model) == [5, WHOLE]


@pytest.mark.parametrize("name", ["resnet", "model"])
def test_weights_of_other_names_do_not_fit_a_foreign_model(lab, name) -> None:
    config = compose_config([*QUICK, "model._target_=own_models.Net"])
    model = build_model(config, 1, 10)
    assert fit_weights(model, model.state_dict()).tensors.keys() == model.state_dict().keys()
    with pytest.raises(WeightsError, match="a model of your own takes weights of its own names alone"):
        fit_weights(model, {f"{name}.{key}": value for key, value in model.state_dict().items()})


@pytest.mark.parametrize("block", [*BLOCKS, "own_models.SEBlock"])
@pytest.mark.parametrize("attention", ["none", "squeeze_excitation", "own_models.Excitation"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_zero_init_residual_starts_each_block_as_its_shortcut(lab, block, attention, norm) -> None:
    chosen = ["model.layers=[2]", "model.zero_init_residual=true", f"model.block={block}", f"model.attention={attention}"]
    model = build_model(compose_config([*chosen, f"model.norm={norm}"]), 1, 3)
    second = model.get_submodule("stages.0.1").eval()
    x = torch.rand(2, second.out_channels, 8, 8)  # positive: ReLU leaves it
    assert torch.equal(second(x), x)
    weighing = [value for name, value in second.named_parameters() if ("attention." in name or ".weigh." in name) and "bias" not in name]
    assert all(value.any() for value in weighing)  # those of the attention, inside or behind, are left to learn


@pytest.mark.parametrize("block", ["basic", "preact_basic"])
def test_a_shortcut_of_one_s_own_keeps_its_convolution(lab, block) -> None:
    model = build_model(compose_config(["model.shortcut=own_models.average", f"model.block={block}", "model.layers=[1,1]"]), 1, 3)
    keeps, changes = (model.get_submodule(f"stages.{index}.0").shortcut for index in (0, 1))
    assert isinstance(keeps, nn.Identity)
    pool, conv, norm = changes
    assert isinstance(pool, nn.AvgPool2d) and conv.weight.shape == (32, 16, 1, 1)
    assert isinstance(norm, nn.BatchNorm2d if block == "basic" else nn.Identity)


@pytest.fixture
def colour(lab) -> str:
    """Digits in three channels."""
    digits = load_digits()
    images = np.repeat((digits.images * 15.9).astype(np.uint8)[..., None], 3, axis=-1)
    arrays = {"x_train": images[:200], "y_train": digits.target[:200], "x_test": images[200:240], "y_test": digits.target[200:240]}
    np.savez(lab / "colour.npz", **arrays)
    return "colour.npz"


@pytest.mark.full
def test_torchvision_s_network_beside_ours_in_one_sweep(lab, colour) -> None:
    quick = ("epochs=null", "max_steps=2", "batch_size=16", "wandb=disabled", "scheduler=constant")
    chosen = (*quick, "data=arrays", f"data.path={colour}", "data.val_size=40", "limit_batches=1")
    targets = "torchvision.models.resnet18,resnet.models.resnet.ResNet"
    output = call(lab, ROOT / "train.py", "-m", *chosen, f"model._target_={targets}", "sweep.name=s").stdout
    assert "multirun/s: 2 of 2 jobs finished" in output and (lab / "multirun" / "s" / "report.html").is_file()
    runs = {summary(path.parent)["parameters"]: path.parent for path in (lab / "multirun" / "s").glob("*/summary.json")}
    theirs = runs[11_181_642]  # resnet18 with ten classes
    call(lab, "-m", "resnet", "resume", theirs, "max_steps=3")
    call(lab, ROOT / "train.py", *chosen, "model._target_=torchvision.models.resnet18", "max_steps=3", "name=b")
    assert all(torch.equal(*pair) for pair in zip(weights(theirs).values(), weights(lab / "outputs" / "b").values(), strict=True))
    told = json.loads(call(lab, "-m", "resnet", "describe", *chosen, "model._target_=torchvision.models.resnet18", "--json").stdout)
    assert told["model"] == "torchvision.models.resnet18" and told["stages"][3]["stage"] == "maxpool"
    assert told["stages"][4]["output"] == [64, 2, 2] and told["stages"][4]["receptive_field"] is None
    done = json.loads(call(lab, "-m", "resnet", "export", theirs, "--json").stdout)
    assert set(done["written"]) == {"onnx", "safetensors"}
    table = json.loads(call(lab, "-m", "resnet", "compare", "multirun/s", "--json").stdout)
    assert table["runs"] == 2 and len(table["groups"]) == 2
    assert "accuracy" in call(lab, "-m", "resnet", "evaluate", theirs).stdout


def test_a_sweep_over_settings_of_a_foreign_model(lab) -> None:
    jobs = list(compose_jobs(read_sweep(["-m", "model._target_=own_models.Net", "model.depth=1,2", "data=digits"])))
    assert [job.config and job.config.model["depth"] for job in jobs] == [1, 2]
    assert differing([job.overrides for job in jobs]) == [{"model.depth": "1"}, {"model.depth": "2"}]
    with pytest.raises(UserError, match=r"job 0 \(model._target_=own_models.Net model.depth=0 data=digits\): model.depth=0: out of range"):
        preflight(read_sweep(["-m", "model._target_=own_models.Net", "model.depth=0,2", "data=digits"]))


def test_a_config_of_before_there_were_targets_means_ours() -> None:
    now = asdict(compose_config(["data=digits", "model.width=8"]))
    old = {name: value for name, value in now["model"].items() if name not in ("_target_", "stem", "attention")}
    assert load_config({**now, "model": old}) == load_config(now)
    assert completed({**now, "model": old}) == completed(now)


def test_the_command_shows_what_a_target_takes(lab) -> None:
    shown = ("--cfg", "job", "--package", "model", "model._target_=own_models.Net", "model.depth=3")
    assert call(lab, ROOT / "train.py", *shown).stdout.splitlines()[-3:] == ["weights: null", "weights_skip: []", "depth: 3"]
