"""The networks: published sizes, shapes, and what each choice promises."""

import itertools

import pytest
import torch
import yaml
from conftest import ROOT
from hydra.utils import get_method
from torch.utils.flop_counter import FlopCounterMode

from resnet.config.components import COMPONENTS
from resnet.config.names import ACTIVATIONS, ATTENTIONS, BLOCKS, NORMS, OUR_MODEL, SHORTCUTS, STEMS
from resnet.config.signature import is_own, read_signature, signature_of
from resnet.models import ResNet
from resnet.models.facts import WHOLE, receptive_fields
from resnet.models.layers import Layers
from resnet.models.shortcuts import ZeroPad

pytestmark = pytest.mark.numeric


def size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("n", "parameters"), [(3, 269_722), (5, 464_154), (7, 658_586), (9, 853_018)])
def test_published_parameter_counts(n: int, parameters: int) -> None:
    assert size(ResNet(3, 10, layers=[n, n, n], shortcut="zero_pad")) == parameters
    assert size(ResNet(3, 10, layers=[n, n, n], shortcut="none")) == parameters


def test_the_articles_network_has_its_parameters() -> None:
    assert size(ResNet(1, 10, layers=[2, 2, 2], shortcut="projection_3x3", init="default")) == 195_450


@pytest.mark.parametrize(("block", "shortcut"), [*itertools.product(BLOCKS, SHORTCUTS)])
def test_every_block_with_every_shortcut_learns_at_any_size(block: str, shortcut: str) -> None:
    model = ResNet(3, 5, layers=[1, 2], width=4, block=block, shortcut=shortcut)
    for pixels in (2, 9, 16):
        scores = model(torch.randn(2, 3, pixels, pixels))
        assert scores.shape == (2, 5)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("activation", "norm", "block"), [*itertools.product(ACTIVATIONS, NORMS, ("basic", "preact_basic"))])
def test_activations_and_norms_leave_the_input_alone(activation: str, norm: str, block: str) -> None:
    model = ResNet(1, 3, layers=[1, 1], width=8, activation=activation, norm=norm, block=block)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(model.features(images)[0], model.stem(images))
    model(images).sum().backward()


def test_feature_maps_of_the_stages() -> None:
    maps = ResNet(1, 10, layers=[1, 1, 1], width=4).features(torch.randn(2, 1, 28, 28))
    assert [tuple(feature.shape[1:]) for feature in maps] == [(4, 28, 28), (4, 28, 28), (8, 14, 14), (16, 7, 7)]


def test_zero_pad_takes_every_second_pixel_between_new_channels() -> None:
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    out = ZeroPad(2, 4, 2, Layers())(x)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert not out[:, 0].any() and not out[:, 3].any()


@pytest.mark.parametrize("block", BLOCKS)
def test_zero_init_residual_starts_each_block_as_its_shortcut(block: str) -> None:
    model = ResNet(1, 3, layers=[2], width=4, block=block, zero_init_residual=True).eval()
    second = model.stages[0][1]
    x = torch.rand(2, second.out_channels, 8, 8)  # positive: ReLU leaves it
    assert torch.equal(second(x), x)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_stem_gives_its_width_and_learns(stem: str, block: str) -> None:
    model = ResNet(3, 5, layers=[1], width=6, stem=stem, block=block)
    maps = model.features(torch.randn(2, 3, 32, 32))
    assert tuple(maps[0].shape[1:]) == ((6, 32, 32) if stem == "conv3x3" else (6, 8, 8))
    model.head(maps[-1]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    layers = [type(module) for module in model.stem.modules()]
    assert layers[-1 if stem == "conv3x3" else -2] is (torch.nn.Conv2d if block.startswith("preact") else torch.nn.ReLU)


def test_the_imagenet_network_is_torchvision_s() -> None:
    """Stem, blocks and projections of ResNet-18, as He et al. 2015 have it: its number of parameters."""
    from torchvision.models import resnet18

    with torch.device("meta"):
        ours, theirs = ResNet(3, 1000, layers=[2, 2, 2, 2], width=64, stem="conv7x7_pool", shortcut="projection_1x1"), resnet18()
    assert size(ours) == size(theirs)
    assert [tuple(p.shape) for p in ours.stem.parameters()] == [tuple(p.shape) for m in (theirs.conv1, theirs.bn1) for p in m.parameters()]


def test_squeeze_and_excitation_is_that_of_hu_et_al_2018() -> None:
    """Section 3: each channel times sigmoid(W2 relu(W1 mean)), at the end of the residual branch, before the sum."""
    model = ResNet(1, 3, layers=[1], width=32, attention="squeeze_excitation", shortcut="zero_pad").eval()
    block = model.stages[0][0]
    first, _, second, _ = block.attention.weights
    assert first.weight.shape == (2, 32, 1, 1)  # a reduction of 16
    x = torch.rand(2, 32, 8, 8)
    u = block.residual(x)
    hidden = torch.relu(u.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias)
    weights = torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)
    torch.testing.assert_close(block(x), torch.relu(u * weights[:, :, None, None] + x))


REACHES = [
    {"stem": "conv7x7_pool"},
    {"stem": "deep"},
    {"stem": "conv7x7_pool", "block": "preact_bottleneck", "shortcut": "projection_1x1"},
    {"block": "bottleneck", "shortcut": "projection_3x3"},
    {"shortcut": "none", "block": "preact_basic"},
]


@pytest.mark.parametrize("settings", REACHES)
def test_the_receptive_field_is_what_the_gradient_reaches(settings: dict[str, str]) -> None:
    model = ResNet(1, 2, layers=[1, 2], width=4, norm="none", activation="silu", **settings).double()
    for pool in (module for module in model.modules() if isinstance(module, torch.nn.MaxPool2d)):
        model.stem[-1] = torch.nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding)  # which passes a gradient to all that it sees
    images = torch.randn(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    *fields, of_head = receptive_fields(model)
    for field, maps in zip(fields, model.features(images), strict=True):
        middle = maps.shape[-1] // 2
        (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), images, retain_graph=True)
        assert int((gradient[0, 0].abs() > 0).any(0).sum()) == field
    assert of_head == WHOLE


def test_no_receptive_field_where_a_layer_is_not_known() -> None:
    assert receptive_fields(ResNet(1, 2, layers=[1, 1], norm="torch.nn.InstanceNorm2d")) == [None] * 4
    assert receptive_fields(ResNet(1, 2, layers=[1, 1], attention="squeeze_excitation")) == [3, WHOLE, WHOLE, WHOLE]
    assert receptive_fields(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, dilation=2), torch.nn.AvgPool2d(2))) == [5, 6]
    assert receptive_fields(torch.nn.Sequential(torch.nn.Conv2d(1, 2, (3, 1)), torch.nn.AvgPool2d(2))) == [None, None]


def test_the_config_s_defaults_are_the_signature_s() -> None:
    written = yaml.safe_load((ROOT / "conf" / "model" / "resnet.yaml").read_text())
    signature = read_signature(OUR_MODEL, "")
    assert written == {
        "_target_": OUR_MODEL,
        **{name: one.default for name, one in COMPONENTS["model"].settings(signature).items()},
        "weights": None,
        "weights_skip": [],
    }


BUILT_IN = {target for kind in (BLOCKS, SHORTCUTS, STEMS, ATTENTIONS, NORMS) for target in kind.values()} | {OUR_MODEL}


@pytest.mark.parametrize("target", sorted(target for target in BUILT_IN if is_own(target)))
def test_a_signature_that_is_read_from_its_text_is_python_s_own(target: str) -> None:
    assert read_signature(target, target) == signature_of(get_method(target))


def test_stochastic_depth_drops_only_while_training() -> None:
    model = ResNet(1, 3, layers=[4], width=4, stochastic_depth=0.9)
    images = torch.randn(8, 1, 8, 8)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


def test_plain_network_is_the_residual_one_without_the_sum() -> None:
    residual, plain = (ResNet(1, 3, layers=[2], width=4, shortcut=shortcut).eval() for shortcut in ("zero_pad", "none"))
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 4, 8, 8)
    block, plain_block = residual.stages[0][0], plain.stages[0][0]
    assert torch.allclose(block(x), torch.relu(plain_block.residual(x) + x))
    assert torch.equal(plain_block(x), torch.relu(plain_block.residual(x)))


@pytest.mark.parametrize("block", ["preact_basic", "preact_bottleneck"])
def test_preactivation_is_that_of_he_et_al_2016(block: str) -> None:
    """Figure 1b, and where the shape changes the projection of the activated input, as in the authors' code."""
    model = ResNet(1, 3, layers=[1, 2], width=4, block=block, shortcut="projection_1x1")
    changes, keeps = model.stages[1]
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    model.eval()
    x = torch.randn(2, changes.norm.num_features, 8, 8)
    for unit, has_projection in ((changes, True), (keeps, False)):
        norms = [unit.norm, *(module for module in unit.residual if isinstance(module, torch.nn.BatchNorm2d))]
        convs = [module for module in unit.residual if isinstance(module, torch.nn.Conv2d)]
        assert len(norms) == len(convs) == (2 if block == "preact_basic" else 3)
        first = out = torch.relu(norms[0](x))
        for norm, conv in zip([None, *norms[1:]], convs, strict=True):
            out = conv(out if norm is None else torch.relu(norm(out)))
        assert [conv.stride[0] for conv in convs] == [2 if has_projection else 1, *[1] * (len(convs) - 1)]
        torch.testing.assert_close(unit(x), out + (unit.shortcut(first) if has_projection else x))
        x = unit(x)


def test_option_c_projects_in_every_block() -> None:
    """Beside option B's two: a 1x1 convolution and its normalisation in each of the four blocks that keep their shape."""
    b, c = (ResNet(1, 10, layers=[2, 2, 2], shortcut=shortcut) for shortcut in ("projection_1x1", "projection_all"))
    assert size(c) - size(b) == sum(times * (width * width + 2 * width) for width, times in ((16, 2), (32, 1), (64, 1)))


def test_he_s_start_has_variance_two_over_fan_out() -> None:
    conv = ResNet(1, 10, layers=[1, 1], width=64).stages[1][0].residual[0]
    assert conv.weight.shape == (128, 64, 3, 3)
    assert conv.weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.02)


def test_stochastic_depth_falls_linearly_from_the_last_block() -> None:
    model = ResNet(1, 3, layers=[2, 3], width=4, stochastic_depth=0.5)
    rates = [getattr(block.drop, "p", 0.0) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("pixels", [1, 2, 5, 8])
def test_a_strided_1x1_convolution_is_torch_s(pixels: int) -> None:
    """Computed another way: its values, gradients, parameters and operations are those of the strided one."""
    torch.manual_seed(0)
    ours, theirs = Layers("none").conv(4, 6, 1, 2).double(), torch.nn.Conv2d(4, 6, 1, 2).double()
    theirs.load_state_dict(ours.state_dict())
    images, operations, gradients = torch.randn(3, 4, pixels, pixels, dtype=torch.float64), [], []
    for conv in (ours, theirs):
        x = images.clone().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            out = conv(x)
        out.square().sum().backward()
        operations.append(counter.get_total_flops())
        gradients.append([out, x.grad, conv.weight.grad, conv.bias.grad])
    torch.testing.assert_close(*gradients)
    assert operations[0] == operations[1] and ours.stride == theirs.stride
