"""Weights from elsewhere: an independent network under each public naming scheme gives ours the same answers."""

import os

import pytest
import torch
import torch.nn.functional as F
from conftest import real_data
from test_run import summary
from torch import nn

from resnet.models import ResNet
from resnet.models.published import WeightsError, fit_weights, read_weights


class TheirBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int, projection: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.new, self.projection = stride, after - before, projection
        if self.new and projection:
            setattr(self, projection, nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)))

    def forward(self, x):
        short = x
        if self.new and self.projection:
            short = getattr(self, self.projection)(x)
        elif self.new:  # option A, as the first family has it: a quarter of the new width on either side
            short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return F.relu(short + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class TheirNet(nn.Module):
    def __init__(self, head: str, projection: str = "", n: int = 2) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        before = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = [TheirBlock(before if i == 0 else width, width, 2 if stage and not i else 1, projection) for i in range(n)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            before = width
        self.head = head
        setattr(self, head, nn.Linear(64, 10))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return getattr(self, self.head)(x.mean((2, 3)))


def trained(net: nn.Module) -> nn.Module:
    """With random statistics and scales, so that nothing is as it was initialised."""
    torch.manual_seed(0)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.3 + 0.1 if value.ndim < 2 else torch.randn_like(value) * 0.1)
    return net.eval()


FAMILIES = {
    "pytorch_resnet_cifar10": (TheirNet("linear"), "zero_pad"),
    "pytorch-cifar-models": (TheirNet("fc", "downsample"), "projection_1x1"),
    "pytorch_resnet_cifar10, option B": (TheirNet("linear", "shortcut"), "projection_1x1"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrapping", ["plain", "module.", "state_dict", "safetensors", "without counters"])
def test_both_networks_answer_alike(tmp_path, family, wrapping) -> None:
    net, shortcut = FAMILIES[family]
    state = trained(net).state_dict()
    path = tmp_path / ("weights.safetensors" if wrapping == "safetensors" else "weights.th")
    if wrapping == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        if wrapping in ("module.", "state_dict"):
            state = {f"module.{name}": value for name, value in state.items()}
        if wrapping == "without counters":
            state = {name: value for name, value in state.items() if "num_batches" not in name}
        torch.save({"state_dict": state, "best_prec1": 91.0} if wrapping == "state_dict" else state, path)
    model = ResNet(3, 10, layers=[2, 2, 2], shortcut=shortcut).eval()
    model.load_state_dict(fit_weights(model, read_weights(path)))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), net(images))


def error(model: ResNet, weights) -> str:
    with pytest.raises(WeightsError) as caught:
        fit_weights(model, weights)
    return str(caught.value)


def test_what_does_not_fit_is_listed() -> None:
    option_a, option_b = TheirNet("linear").state_dict(), TheirNet("fc", "downsample").state_dict()
    deeper = error(ResNet(3, 10, layers=[3, 3, 3], shortcut="zero_pad"), option_a)
    assert "missing in the file: stages.0.2.residual.0.weight" in deeper and "more" in deeper and "model.layers" in deeper
    wider = error(ResNet(3, 10, layers=[2, 2, 2], width=8, shortcut="zero_pad"), option_a)
    assert "stem.0.weight: file (16, 3, 3, 3), model (8, 3, 3, 3)" in wider
    assert "model.shortcut=projection_1x1" in error(ResNet(3, 10, layers=[2, 2, 2], shortcut="zero_pad"), option_b)
    assert "model.shortcut=zero_pad" in error(ResNet(3, 10, layers=[2, 2, 2], shortcut="projection_1x1"), option_a)
    assert "unknown to the model: foo" in error(ResNet(3, 10, layers=[2, 2, 2], shortcut="zero_pad"), {**option_a, "foo": torch.ones(1)})


class Payload:
    def __reduce__(self):
        return os.system, ("touch touched",)


@pytest.mark.parametrize("content", [Payload(), {"a": 1}, [1], b"no zip"])
def test_what_holds_no_weights_is_named(tmp_path, monkeypatch, content) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(WeightsError, match=r"bad\.pt"):
        read_weights(path)
    assert not (tmp_path / "touched").exists()
    with pytest.raises(WeightsError, match="there is no file"):
        read_weights(tmp_path / "nowhere.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("file", "accuracy"), [("resnet20-12fca82f.th", 0.9173), ("resnet32-d509ac18.th", 0.9263)])
def test_published_accuracy(train, tmp_path, file, accuracy) -> None:
    """As published with the first family's checkpoints: test errors of 8.27 and 7.37 %."""
    weights, data = real_data("pretrained", file), real_data("cifar10.npz")
    model = file.split("-")[0]
    statistics = ("data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]")
    train("data=arrays", f"data.path={data}", f"model={model}", f"model.weights={weights}", "epochs=0", "name=a", *statistics)
    assert summary(tmp_path / "outputs" / "a")["test"]["accuracy"] == accuracy
