"""Weights from elsewhere: other people's networks, written anew here under their names, give the same scores in ours."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import real_data
from rounding import assert_same_scores, near_ties, scores_of, tolerance
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from resnet.analysis.saved import load_model, open_run
from resnet.models import ResNet
from resnet.models.weights import WeightsError, fit_weights, read_weights

pytestmark = pytest.mark.numeric


class TheirBlock(nn.Module):
    """Basic, or bottleneck where `expansion` is 4; `projection` names the shortcut that is a convolution, "" for option A."""

    def __init__(self, in_channels: int, width: int, stride: int, projection: str, expansion: int) -> None:
        super().__init__()
        out_channels = width * expansion
        kernels, strides = ((3, 3), (stride, 1)) if expansion == 1 else ((1, 3, 1), (stride, 1, 1))
        channels = [in_channels, *[width] * (len(kernels) - 1), out_channels]
        for index, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            conv = nn.Conv2d(channels[index], channels[index + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index + 1}", conv)
            self.add_module(f"bn{index + 1}", nn.BatchNorm2d(channels[index + 1]))
        self.depth, self.stride, self.new, self.projection = len(kernels), stride, out_channels - in_channels, ""
        if projection and (stride != 1 or self.new):
            self.projection = projection
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.add_module(projection, nn.Sequential(conv, nn.BatchNorm2d(out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for index in range(1, self.depth + 1):
            out = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(out))
            out = F.relu(out) if index < self.depth else out
        if self.projection:
            return F.relu(out + getattr(self, self.projection)(x))
        return F.relu(out + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2)))


class TheirNetwork(nn.Module):
    def __init__(self, layers: Sequence[int] = (2, 1, 2), head: str = "linear", projection: str = "", expansion: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.num_stages, self.head, channels = len(layers), head, 4
        for stage, num_blocks in enumerate(layers):
            blocks = []
            for position in range(num_blocks):
                blocks.append(TheirBlock(channels, 4 * 2**stage, 2 if stage and not position else 1, projection, expansion))
                channels = 4 * 2**stage * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.add_module(head, nn.Linear(channels, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.num_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.head)(x.mean((2, 3)))


def as_if_trained(model: nn.Module) -> Any:
    """No value is the one that a new network starts with."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5 if "running_var" in name else value + 0.2 * torch.randn(value.shape))
        else:
            value.fill_(7)
    return model.eval()


def ours(**changes: Any) -> ResNet:
    return ResNet(3, 10, **({"layers": [2, 1, 2], "width": 4, "shortcut": "zero_pad"} | changes)).eval()


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def check_same_scores(theirs: nn.Module, model: ResNet, path: Path) -> None:
    model.load_state_dict(fit_weights(model, read_weights(path)).tensors, strict=True)
    images = torch.randn(4, 3, 12, 12)
    assert_same_scores(model(images), theirs(images), model)


def misfit(model: ResNet, weights: dict[str, Tensor]) -> str:
    """The error's text; the model must come out of it as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        fit_weights(model, weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "changes"),
    [
        ({}, {}),
        ({"projection": "shortcut"}, {"shortcut": "projection_1x1"}),
        ({"projection": "downsample", "head": "fc"}, {"shortcut": "projection_1x1"}),
        ({"projection": "downsample", "head": "fc", "expansion": 4}, {"shortcut": "projection_1x1", "block": "bottleneck"}),
        ({"layers": (1, 1, 2, 1)}, {"layers": [1, 1, 2, 1], "dropout": 0.1}),
    ],
)
def test_their_networks_give_the_same_scores_in_ours(theirs: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    network = as_if_trained(TheirNetwork(**theirs))
    check_same_scores(network, ours(**changes), saved(network.state_dict(), tmp_path / "weights.pt"))


def test_a_data_parallel_checkpoint_in_the_old_format_without_counts_of_batches(tmp_path: Path) -> None:
    network = as_if_trained(TheirNetwork())
    kept = {f"module.{name}": value for name, value in network.state_dict().items() if "num_batches" not in name}
    content = {"state_dict": kept, "best_prec1": 91.7}
    torch.save(content, tmp_path / "resnet20.th", _use_new_zipfile_serialization=False)
    check_same_scores(network, ours(), tmp_path / "resnet20.th")


def test_prefixes_of_compiled_and_parallel_models_go(tmp_path: Path) -> None:
    network = as_if_trained(ours())
    kept = {f"module._orig_mod.{name}": value for name, value in network.state_dict().items()}
    check_same_scores(network, ours(), saved(kept, tmp_path / "weights.pt"))


def test_our_own_checkpoints_give_the_averaged_weights_where_there_are_any(tmp_path: Path) -> None:
    model, averaged = as_if_trained(ours()), as_if_trained(AveragedModel(ours(), use_buffers=True))
    weights = model.state_dict()
    rest = {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "progress": {"epoch": 3}}
    check_same_scores(model, ours(), saved({"model": weights, "progress": {"epoch": 3}}, tmp_path / "best.pt"))
    check_same_scores(model, ours(), saved({"model": weights, "average": None, **rest}, tmp_path / "last.pt"))
    check_same_scores(averaged, ours(), saved({"model": weights, "average": averaged.state_dict(), **rest}, tmp_path / "ema.pt"))


def test_our_names_of_every_kind_of_network_stay(tmp_path: Path) -> None:
    model = as_if_trained(ours(block="preact_basic", norm="group", shortcut="projection_3x3"))
    fresh = ours(block="preact_basic", norm="group", shortcut="projection_3x3")
    check_same_scores(model, fresh, saved(model.state_dict(), tmp_path / "weights.pt"))


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    network, path = as_if_trained(TheirNetwork()), tmp_path / "model.safetensors"
    safetensors.save_file(network.state_dict(), path)
    check_same_scores(network, ours(), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match=r"model\.safetensors does not open"):
        read_weights(path)
    with pytest.raises(WeightsError, match="there is no file"):
        read_weights(tmp_path / "none.safetensors")


def test_without_the_safetensors_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(WeightsError, match="pip install safetensors"):
        read_weights(tmp_path / "model.safetensors")


class Payload:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = saved({"state_dict": ours().state_dict(), "extra": Payload(tmp_path / "ran")}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weights\.pt does not open .* holds more than tensors; fetch it again, or write it with"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_cut_short_are_damaged(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(ours().state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for kept in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"^.*weights\.pt does not open as weights .*: it is damaged.*$") as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file .*none\.pt"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="is no regular file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [{}, [1, 2], torch.ones(2), {"epoch": 3}, {1: torch.ones(2)}, {"state_dict": {"conv1.weight": "text"}}])
def test_a_file_without_named_tensors_holds_no_weights(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights\.pt holds no weights: give a state dict"):
        read_weights(saved(content, tmp_path / "weights.pt"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # sparse tensors are slow to read, quantised ones deprecated
def test_tensors_without_plain_values_count_as_missing(tmp_path: Path) -> None:
    weights = ours().state_dict()
    weights["stem.0.weight"] = weights["stem.0.weight"].to("meta")
    weights["head.3.weight"] = weights["head.3.weight"].to_sparse()
    weights["head.3.bias"] = torch.quantize_per_tensor(weights["head.3.bias"], 0.1, 0, torch.qint8)
    kept = read_weights(saved(weights, tmp_path / "weights.pt"))
    assert "missing in the file: stem.0.weight, head.3.weight, head.3.bias\n" in misfit(ours(), kept)


def test_the_error_lists_a_few_of_each_kind_and_counts_the_rest() -> None:
    weights = TheirNetwork(layers=(2, 1, 1)).state_dict() | {f"extra{number}": torch.ones(1) for number in range(9)}
    weights["bn1.bias"] = torch.ones(9)
    text = misfit(ours(), weights)
    block = "stages.2.1.residual"
    missing = f"{block}.0.weight, {block}.1.weight, {block}.1.bias, {block}.1.running_mean, {block}.1.running_var and 5 more"
    assert f"missing in the file: {missing}\n" in text
    assert "unknown to the model: extra0, extra1, extra2, extra3, extra4 and 4 more\n" in text
    assert "of another shape: stem.1.bias: file (9,), model (4,)\n" in text
    assert all(key in text for key in ("model.block", "model.layers", "model.width", "model.shortcut"))
    assert "projection" not in text


def test_shortcuts_of_the_other_kind_bring_a_hint() -> None:
    projections = TheirNetwork(projection="downsample", head="fc").state_dict()
    assert "the file has projection shortcuts: model.shortcut=projection_1x1" in misfit(ours(), projections)
    nothing = TheirNetwork().state_dict()
    assert "the file has no projection shortcuts: model.shortcut=zero_pad" in misfit(ours(shortcut="projection_1x1"), nothing)


def test_two_names_for_one_layer_do_not_fit() -> None:
    weights = TheirNetwork().state_dict()
    assert "unknown to the model: linear.bias\n" in misfit(ours(), weights | {"fc.bias": torch.ones(10)})


def test_a_gigantic_shape_is_a_mismatch_like_any_other(tmp_path: Path) -> None:
    weights = TheirNetwork().state_dict() | {"conv1.weight": torch.ones(1).expand(10**9, 10**9)}
    read = read_weights(saved(weights, tmp_path / "weights.pt"))
    assert "stem.0.weight: file (1000000000, 1000000000), model (4, 3, 3, 3)" in misfit(ours(), read)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "accuracy"), [("resnet20-12fca82f.th", 0.9173), ("resnet32-d509ac18.th", 0.9263)])
def test_published_accuracy(train: Any, tmp_path: Path, file: str, accuracy: float) -> None:
    """As published beside the checkpoints of akamaster/pytorch_resnet_cifar10: test errors of 8.27 and 7.37 %."""
    weights, data = real_data("pretrained", file), real_data("cifar10.npz")
    statistics = ("data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]")
    chosen = (f"model={file.split('-')[0]}", f"model.weights={weights}", "epochs=0", "name=a")
    train("data=arrays", f"data.path={data}", *chosen, *statistics)
    run = tmp_path / "outputs" / "a"
    told = json.loads((run / "summary.json").read_text())["test"]["accuracy"]
    scores, labels = scores_of(run)
    allowed = near_ties(scores, tolerance(load_model(open_run(run))[0]))
    assert allowed < 20 and abs(told - accuracy) * len(labels) < allowed + 0.5  # of 10,000
