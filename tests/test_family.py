"""The family beyond small images: each ready option is the network of torchvision or timm that it names, and each key does what its paper
says."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import resnet
from resnet.analysis.export import export
from resnet.analysis.saved import open_run
from resnet.build_data import build_data
from resnet.build_model import build_model, check_stages, meta_model, told_of_small_images, trial
from resnet.config import UserError
from resnet.config.cli import compose_config
from resnet.config.names import BLOCKS, NORMS, SHORTCUTS, STEMS
from resnet.models import ResNet
from resnet.models.facts import WHOLE, receptive_fields
from resnet.models.pooling import BlurPool
from resnet.models.weights import fit_weights

pytestmark = pytest.mark.numeric


def in_torchvision(name: str) -> Callable[..., nn.Module]:
    def make() -> nn.Module:
        from torchvision import models

        return getattr(models, name)(num_classes=10)

    return make


def in_timm(name: str, **settings: Any) -> Callable[..., nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm")
        return timm.create_model(name, num_classes=10, **settings)

    return make


# What is set here: the network elsewhere.
READY = {
    "model=resnet18": in_torchvision("resnet18"),
    "model=resnet34": in_torchvision("resnet34"),
    "model=resnet50": in_torchvision("resnet50"),
    "model=resnet101": in_torchvision("resnet101"),
    "model=resnet152": in_torchvision("resnet152"),
    "model=resnext50_32x4d": in_torchvision("resnext50_32x4d"),
    "model=wide_resnet50_2": in_torchvision("wide_resnet50_2"),
    "model=resnet50d": in_timm("resnet50d"),
    "model=se_resnet50": in_timm("seresnet50"),
    "model=bit_resnet50": in_timm("resnetv2_50x1_bit"),
}
SET = {
    "model=resnet18 model.attention={_target_:squeeze_excitation,divisor:8}": in_timm("seresnet18"),
    "model=resnet18 model.anti_alias=blur": in_timm("resnetblur18"),
    "model=resnet18 model.block=preact_basic": in_timm("resnetv2_18"),
    "model=resnet50d model.anti_alias=blur": in_timm("resnetblur50d"),
    "model=resnet50d model.block=preact_bottleneck": in_timm("resnetv2_50d"),
    "model=resnet50d model.attention=efficient_channel": in_timm("ecaresnet50d"),
    "model=resnet50 model.norm={_target_:group,groups:32}": in_timm("resnet50_gn"),
    "model=resnext50_32x4d model.attention=squeeze_excitation": in_timm("seresnext50_32x4d"),
}
DEEP = ("model=resnet101", "model=resnet152", "model=resnet34")  # the same blocks again


def made(words: str, channels: int = 3, device: str = "cpu") -> Any:
    make = meta_model if device == "meta" else build_model
    return make(compose_config(words.split(" ")), channels, 10)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def operations(model: nn.Module, pixels: int = 224) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, pixels, pixels, device="meta"))
    return int(counter.get_total_flops())


def as_if_trained(model: nn.Module) -> nn.Module:
    """In float64, without any value of the normalisations that a new network starts with."""
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return model


def blurs(words: str) -> int:
    """Operations of timm's blurs, which are convolutions there and means of pixels here."""
    counted = [0]
    model = made(words, device="meta")
    for blur in (module for module in model.modules() if isinstance(module, BlurPool)):
        blur.register_forward_hook(lambda blur, _, out: counted.append(2 * blur.kernel_size**2 * out[0].numel()))
    model(torch.empty(1, 3, 224, 224, device="meta"))
    return sum(counted)


@pytest.mark.parametrize(("words", "theirs"), [*READY.items(), *SET.items()])
def test_parameters_and_operations_are_theirs(words: str, theirs: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        network = theirs()
    ours = made(words, device="meta")
    assert size(ours) == size(network)
    assert operations(ours) + blurs(words) == operations(network)


@pytest.mark.parametrize(("words", "theirs"), [(words, one) for words, one in {**READY, **SET}.items() if words not in DEEP])
def test_scores_are_theirs_with_the_same_weights(words: str, theirs: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    network, ours = as_if_trained(theirs()), made(words).double()
    ours.load_state_dict(fit_weights(ours, network.state_dict()).tensors)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for model in (ours, network):
        model.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images), network(images), rtol=1e-9, atol=1e-9)
        for model in (ours, network):
            model.train()
        torch.testing.assert_close(ours(images), network(images), rtol=1e-6, atol=1e-6)  # after few images in the last stages
    theirs_now = fit_weights(ours, network.state_dict()).tensors
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs_now[name], rtol=1e-6, atol=1e-6)  # the running statistics too


@pytest.mark.parametrize(
    ("words", "millions"),
    [  # Zagoruyko and Komodakis 2016, table 4
        ("model=wrn_28_10", 36.5),
        ("model=wrn_16_4 model.stage_widths=[128,256,512]", 11.0),
        ("model=wrn_16_4 model.layers=[6,6,6]", 8.9),
    ],
)
def test_wide_networks_have_their_published_sizes(words: str, millions: float) -> None:
    assert round(size(made(words, device="meta")) / 1e6, 1) == millions


@pytest.mark.parametrize(("blocks", "parameters"), [(1, 1_233_540), (5, 7_433_860)])
def test_networks_four_times_as_wide_are_those_of_the_papers_on_distillation(blocks: int, parameters: int) -> None:
    """resnet8x4 and resnet32x4 of RepDistiller (Tian et al. 2020), with 100 classes; resnet20x4 lies between them."""
    config = compose_config(["model=resnet20x4", f"model.layers={[blocks] * 3}"])
    assert size(meta_model(config, 3, 100)) == parameters


STRIDES = [("1x1", [2, 1, 1]), ("3x3", [1, 2, 1])]


@pytest.mark.parametrize(("block", "where"), [*itertools.product(["bottleneck", "preact_bottleneck"], STRIDES)])
def test_the_stride_stands_where_the_key_says(block: str, where: tuple[str, list[int]]) -> None:
    model = ResNet(3, 5, layers=[1, 1], block=block, bottleneck_stride=where[0])
    assert [conv.stride[0] for conv in model.stages[1][0].residual if isinstance(conv, nn.Conv2d)] == where[1]


@pytest.mark.parametrize(("block", "shortcut", "stem"), [*itertools.product(BLOCKS, SHORTCUTS, STEMS)])
def test_every_combination_learns_at_odd_and_even_sizes(block: str, shortcut: str, stem: str) -> None:
    attention = "squeeze_excitation" if block.startswith("preact") else "efficient_channel"
    bottleneck = {"groups": 2, "width_per_group": 32, "bottleneck_stride": "3x3"} if "bottleneck" in block else {}
    settings = {"stage_widths": [4, 6], "width": 6, "anti_alias": "blur", "weight_standardization": True, "norm": "group"}
    scale = {} if shortcut == "none" else {"residual_scale": 0.5}
    model = ResNet(1, 3, layers=[1, 2], block=block, shortcut=shortcut, stem=stem, attention=attention, **settings, **bottleneck, **scale)
    for pixels in (9, 16):
        scores = model(torch.randn(2, 1, pixels, pixels))
        assert scores.shape == (2, 3)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("size", [2, 3, 5])
def test_blurring_is_a_binomial_filter_over_reflected_borders(size: int) -> None:
    line = torch.tensor({2: [1.0, 1], 3: [1.0, 2, 1], 5: [1.0, 4, 6, 4, 1]}[size], dtype=torch.float64)
    line /= line.sum()
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    padded = nn.functional.pad(x, [(size - 1) // 2, size // 2] * 2, mode="reflect")
    expected = nn.functional.conv2d(padded, line.outer(line).repeat(3, 1, 1, 1), stride=2, groups=3)
    torch.testing.assert_close(BlurPool(3, 2, size)(x), expected)


def test_blurring_makes_a_network_depend_less_on_the_position_of_a_texture() -> None:
    """The finest texture, moved by one pixel: a strided network takes other pixels, a blurred one sees gray either way."""
    texture = torch.zeros(1, 1, 33, 33)
    texture[..., ::2] = 1
    differences = {}
    for anti_alias in ("none", "blur"):
        torch.manual_seed(0)
        model = ResNet(1, 5, layers=[1, 1, 1], anti_alias=anti_alias, shortcut="pool_projection").eval()
        maps = [model.features(texture[..., start : start + 32])[-1].detach() for start in (0, 1)]
        differences[anti_alias] = float((maps[0] - maps[1]).norm() / maps[0].norm())
    assert differences["blur"] < differences["none"] / 2


def test_standardised_weights_have_no_scale_and_no_mean() -> None:
    torch.manual_seed(0)
    model = ResNet(3, 5, layers=[1, 1], block="bottleneck", weight_standardization=True, norm="group").double().eval()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    before = model(images)
    with torch.no_grad():
        for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
            conv.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_residual_scale_of_zero_starts_each_block_as_its_shortcut_and_learns(block: str) -> None:
    """ReZero (Bachlechner et al. 2020), and SkipInit (De and Smith 2020) without normalisation."""
    model = ResNet(1, 3, layers=[2], width=4, block=block, norm="none", residual_scale=0)
    second = model.stages[0][1]
    x = torch.rand(2, second.out_channels, 8, 8)  # positive: ReLU leaves it
    assert torch.equal(second(x), x)
    second(x).square().sum().backward()
    assert second.residual_scale.factor.grad.abs().item() > 0


@pytest.mark.parametrize("block", ["basic", "bottleneck", "preact_basic"])
def test_fixup_is_that_of_zhang_et_al_2019(block: str) -> None:
    """Section 3: the first m - 1 convolutions of L branches shrink by L ** (-1 / (2 m - 2)), the last and the classifier are zero."""
    convs = {"fixup": [], "he": []}
    for init, found in convs.items():
        torch.manual_seed(0)
        model = ResNet(1, 3, layers=[8, 8], width=4, block=block, norm="none", init=init, residual_scale=1)
        found += [layer.weight for layer in model.stages[1][3].residual if isinstance(layer, nn.Conv2d)]
        shortcut = model.stages[1][0].shortcut
        found.append(next(shortcut.parameters()))
    depth = len(convs["he"]) - 1
    for ours, he in zip(convs["fixup"][: depth - 1], convs["he"][: depth - 1], strict=True):
        torch.testing.assert_close(ours, he * 16 ** (-1 / (2 * depth - 2)))
    assert not convs["fixup"][depth - 1].any() and torch.equal(convs["fixup"][-1], convs["he"][-1])
    fixup = ResNet(1, 3, layers=[1], norm="none", init="fixup")
    assert not fixup(torch.randn(2, 1, 8, 8)).any()


def test_without_normalisation_a_deep_network_learns_by_fixup_and_rezero() -> None:
    """110 layers: at this rate the residual network without normalisation, and without them, is lost at once."""
    lost = {}
    for name, settings in {"none": {}, "fixup": {"init": "fixup", "residual_scale": 1}, "rezero": {"residual_scale": 0}}.items():
        torch.manual_seed(0)
        model = ResNet(1, 2, layers=[18, 18, 18], width=4, norm="none", shortcut="zero_pad", **settings)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        labels = torch.arange(32) % 2
        images = torch.randn(32, 1, 8, 8) + 2 * labels[:, None, None, None] - 1
        for _ in range(25):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        lost[name] = loss.item()
    assert lost["fixup"] < 0.35 and lost["rezero"] < 0.35
    assert not lost["none"] < 0.6


REACHES = [
    {"block": "bottleneck", "bottleneck_stride": "3x3", "groups": 2, "shortcut": "projection_1x1"},
    {"block": "basic", "shortcut": "pool_projection", "anti_alias": "blur"},
    {"block": "preact_bottleneck", "anti_alias": {"_target_": "blur", "size": 5}, "shortcut": "zero_pad"},
    {"block": "bottleneck", "weight_standardization": True, "shortcut": "pool_projection", "residual_scale": 0.7},
]


@pytest.mark.parametrize("settings", REACHES)
def test_the_receptive_field_is_what_the_gradient_reaches(settings: dict[str, Any]) -> None:
    model = ResNet(1, 2, layers=[1, 2], width=4, norm="none", activation="silu", **settings).double()
    images = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    *fields, of_head = receptive_fields(model)
    for field, maps in zip(fields, model.features(images), strict=True):
        middle = maps.shape[-1] // 2
        (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), images, retain_graph=True)
        assert int((gradient[0, 0].abs() > 0).any(0).sum()) == field
    assert of_head == WHOLE


@pytest.mark.parametrize("option", ["resnet18", "resnet50", "resnet50d", "bit_resnet50", "wrn_16_4"])
def test_sections_and_receptive_fields_of_ready_options_are_known(option: str) -> None:
    model = made(f"model={option}", device="meta")
    assert list(model.sections()) == ["stem", *(f"stages.{index}" for index in range(len(model.stages))), "head"]
    assert None not in receptive_fields(model)


def test_a_blurred_stem_is_known_too() -> None:
    assert receptive_fields(made("model=resnet18 model.anti_alias=blur", device="meta"))[0] == 7 + 2 * 2 + 2 * 2
    assert receptive_fields(made("model=resnet20 model.attention=efficient_channel", device="meta"))[1] == WHOLE


REFUSED = {
    "model.groups=2": "model.groups=2: only bottlenecks have it; take model.block=bottleneck, or model.groups=1",
    "model.block=preact_basic model.width_per_group=4": "model.width_per_group=4: only bottlenecks have it",
    "model.stage_widths=[8,16]": "model.stage_widths=[8,16]: 2 widths for 3 stages (model.layers); give one for each stage, or null",
    "model.stage_widths=[8,0,8]": "model.stage_widths=[8,0,8]: out of range; it must be at least 1",
    "model.shortcut=none model.residual_scale=1": "model.residual_scale=1: a plain network (model.shortcut=none) has no shortcut",
    "model.init=fixup": "model.init=fixup: it takes the place of normalisation; set model.norm=none, or model.init=he",
    "model.init=fixup model.norm=none model.residual_scale=0": "model.residual_scale=0 model.init=fixup: two zeros in a row learn nothing",
    "model.zero_init_residual=true model.residual_scale=0": "model.residual_scale=0 model.zero_init_residual=true: two zeros in a row",
    "model.norm=none model.weight_standardization=true": "model.weight_standardization=true: weights of variance 1 need a normalisation",
    "model.bottleneck_stride=2x2": "model.bottleneck_stride=2x2: no such choice; choose one of 1x1, 3x3",
    "model.anti_alias=blurpool": "model.anti_alias=blurpool: no such choice (did you mean blur?); choose one of none, blur",
    "model.anti_alias={_target_:blur,size:1}": "model.anti_alias.size=1: out of range; it must be at least 2",
    "model.attention=se": "model.attention=se: no such choice (did you mean squeeze_excitation?)",
    "model.attention=eca": "model.attention=eca: no such choice (did you mean efficient_channel?)",
    "model.stem=imagenet": "model.stem=imagenet: no such choice (did you mean conv7x7_pool?)",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items())
def test_what_makes_no_sense_is_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        compose_config(words.split(" "))
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("words", "size", "told"),
    [
        (
            "model=resnet18",
            32,
            ["images of 32 pixels are 8 behind the stem and 1 at the end: model.stem=conv7x7_pool is made for about 224;"],
        ),
        ("model=resnet50d", 64, ["images of 64 pixels are 16 behind the stem and 2 at the end: model.stem=deep is made for about 224;"]),
        ("model=resnet18", 96, []),
        ("model=resnet18 model.stem=conv3x3", 32, []),
        ("model=resnet110", 8, []),
    ],
)
def test_a_network_for_photos_tells_of_small_images(words: str, size: int, told: list[str]) -> None:
    config = compose_config([*words.split(" "), "data=digits"])
    notes = told_of_small_images(config, *trial(config, build_data(config), (size, size)))
    assert [note.startswith(start) for note, start in zip(notes, told, strict=True)] == [True] * len(told)
    assert all("take model.stem=conv3x3, which leaves small images whole, or model=resnet20" in note for note in notes)


def test_a_network_for_photos_refuses_images_that_are_too_small() -> None:
    config = compose_config(["model=resnet18", "data=digits"])
    with pytest.raises(
        UserError, match=r"images of 28 pixels, 7 behind the stem, are too small for 4 stages.*take model\.stem=conv3x3, which"
    ):
        check_stages(config, build_data(config), (28, 28), "data")


def test_groups_that_leave_no_channel_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.width_per_group=2: less than one channel per group for a stage of width 16"):
        made("model.block=bottleneck model.groups=8 model.width_per_group=2")


@pytest.mark.slow
def test_the_new_parts_are_exported_to_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    parts = ("block=bottleneck", "bottleneck_stride=3x3", "groups=2", "shortcut=pool_projection", "anti_alias=blur", "stem=bit")
    more = ("attention=efficient_channel", "weight_standardization=true", "norm=group", "residual_scale=0.5", "layers=[1,1]")
    quick = ("data=digits", "max_steps=1", "epochs=null", "limit_batches=1", "wandb=disabled", "fabric=cpu")
    resnet.train([*quick, *(f"model.{part}" for part in (*parts, *more)), "name=a"])
    written = export(open_run(tmp_path / "outputs" / "a"), ["onnx"], None, tmp_path / "out")["written"]["onnx"]
    assert written["largest_difference"] < 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_new_keys_leave_the_networks_of_before_as_they_were(norm: str) -> None:
    """Names of parameters and buffers, which checkpoints hold."""
    model = ResNet(1, 3, layers=[1, 1], block="bottleneck", norm=norm)
    names = {name.rpartition(".")[0] for name in model.state_dict() if name.startswith("stages.1.")}
    convs = {f"stages.1.0.{place}" for place in ("residual.0", "residual.3", "residual.6", "shortcut.0")}
    norms = {f"stages.1.0.{place}" for place in ("residual.1", "residual.4", "residual.7", "shortcut.1")}
    assert names == (convs if norm == "none" else convs | norms)


def test_groups_of_a_normalisation() -> None:
    """A group normalisation with as many groups as asked for, or the most that divide the channels."""
    model = made("model=bit_resnet50", device="meta")
    assert {module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)} == {32}
    small = ResNet(1, 3, layers=[1], width=12, norm={"_target_": "group", "groups": 32})
    assert {module.num_groups for module in small.modules() if isinstance(module, nn.GroupNorm)} == {4}
