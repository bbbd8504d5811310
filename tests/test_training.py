"""Schedules against torch's own, the optimizer step against its definition, the choice of the best checkpoint."""

import math
from contextlib import nullcontext

import pytest
import torch
from conftest import compose
from rounding import assert_same_weights, tolerance
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from resnet.build import build, build_objective, build_optimizer
from resnet.build_data import build_augment, build_data
from resnet.build_fabric import build_fabric
from resnet.build_model import meta_model
from resnet.data import Augment, Loader
from resnet.data.augment import Crop
from resnet.models import ResNet
from resnet.training.learner import Learner, Scores
from resnet.training.loop import Progress, Window
from resnet.training.optim import schedules
from resnet.training.optim.groups import parameter_groups
from resnet.training.optim.muon import Muon, orthogonal

pytestmark = pytest.mark.numeric


def rates(make, steps=40):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_multistep_is_torchs_after_its_warmup() -> None:
    ours = rates(lambda optimizer: schedules.multistep(optimizer, [10, 30], 0.1, warmup_steps=5, warmup_factor=0.2))
    theirs = rates(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [10, 30], 0.1))
    assert ours[:5] == pytest.approx([0.1] * 5)
    assert ours[5:] == pytest.approx(theirs[5:])


def test_cosine_without_warmup_is_torchs() -> None:
    ours = rates(lambda optimizer: schedules.cosine(optimizer, 40, warmup=0.0, final=0.0))
    assert ours == pytest.approx(rates(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 40)))


def test_cosine_climbs_in_its_warmup_and_ends_at_its_share() -> None:
    """Loshchilov and Hutter 2017, equation 5, behind four steps up in a line."""
    values = rates(lambda optimizer: schedules.cosine(optimizer, 40, warmup=0.1, final=0.2))
    assert values[:4] == pytest.approx([0.5 * step / 5 for step in (1, 2, 3, 4)])
    assert values[4:] == pytest.approx([0.5 * (0.2 + 0.4 * (1 + math.cos(math.pi * step / 36))) for step in range(36)])


@pytest.mark.parametrize("total", [1, 2, 5, 40])
def test_one_cycle_climbs_to_lr_and_ends_low(total: int) -> None:
    values = rates(lambda optimizer: schedules.one_cycle(optimizer, total, warmup=0.2, initial=0.1, final=0.0), total)
    assert all(0 < value <= 0.5 for value in values)
    if total == 40:
        peak = values.index(max(values))
        assert values[0] == pytest.approx(0.05) and values[peak] == pytest.approx(0.5) and peak == 8
        assert values[:9] == sorted(values[:9]) and values[8:] == sorted(values[8:], reverse=True)
        assert values[-1] == pytest.approx(0.5 / 32)  # one of the 32 steps down is left


def parts(*overrides):
    config = compose("data=digits", "model.layers=[1]", "model.norm=group", "fabric=cpu", *overrides)
    return build(config, build_fabric(config))


def after_one_step(*overrides):
    built = parts(*overrides)
    batch = next(built.train.epoch())
    built.learner.step(*batch)
    return built.learner.bare_model, tolerance(built.learner.bare_model, summed=batch.images[:, 0].numel())


def test_accumulation_is_the_whole_batch() -> None:
    smooth = "model.activation=silu"  # ReLU could be turned on or off by a rounding
    (whole, allowed), (in_parts, _) = after_one_step(smooth), after_one_step(smooth, "accumulate=3")
    assert_same_weights(in_parts.state_dict(), whole.state_dict(), allowed)


@pytest.mark.parametrize("accumulate", [1, 3, 5, 7])
def test_a_batch_is_computed_in_as_many_parts_as_were_asked_for(accumulate) -> None:
    """Whatever its size: processes whose shares differ by an image would wait for each other."""
    built = parts(f"accumulate={accumulate}", "batch_size=9")
    seen: list[int] = []
    built.learner.bare_model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    built.learner.step(*next(built.train.epoch()))
    assert len(seen) == accumulate and sum(seen) == 9


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_first_step_that_overflows_in_float16_leaves_no_state(optimizer) -> None:
    """Half precision itself is for GPUs; its gradient scaler is the same here."""
    learner = parts("fabric.precision=16-mixed", f"optimizer={optimizer}").learner
    before = [weight.detach().clone() for weight in learner.weights.parameters()]
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(sum(weight.sum() for weight in learner.bare_model.parameters()) * torch.inf).backward()
    scaler.step(learner.bare_optimizer)
    assert not learner.bare_optimizer.state_dict()["state"]
    assert all(torch.equal(*pair) for pair in zip(before, learner.weights.parameters(), strict=True))


def test_clipping_bounds_the_gradient() -> None:
    built = parts(
        "clip_grad_norm=0.01", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0", "scheduler=constant"
    )
    before = [parameter.detach().clone() for parameter in built.learner.weights.parameters()]
    built.learner.step(*next(built.train.epoch()))
    moved = torch.cat([(a - b.detach()).flatten() for a, b in zip(before, built.learner.weights.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.01 * 0.2, rel=1e-3)


def test_the_loss_is_smoothed_cross_entropy_and_the_means_are_over_images() -> None:
    built = parts("loss.smoothing=0.1", "batch_size=1000")  # 1,000 and 257 images
    expected, seen = [], Window(built.learner, Progress())
    for images, labels, *_ in built.train.epoch():
        logits = built.learner.bare_model.train()(images)
        loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
        expected.append([loss.item(), (logits.argmax(1) == labels).sum().item(), len(labels)])
        seen.add(0.1, built.learner.step(images, labels, len(labels)))
    losses, right, count = map(sum, zip(*expected, strict=True))
    told = seen.close()
    assert len(expected) == 2 and expected[0][2] != expected[1][2]
    rounded = torch.finfo(torch.float32).eps * count**0.5  # a sum of losses, and a mean: their roundings are a random walk
    assert told["train/loss"] == pytest.approx(losses / count, rel=rounded) and told["train/accuracy"] == right / count


def test_another_seed_is_another_order_augmentation_and_start() -> None:
    one, other = parts("augment=none"), parts("augment=none", "seed=1")
    images, others = (next(built.train.epoch()).images for built in (one, other))
    assert not torch.equal(images, others)
    weights, other_weights = (next(iter(built.learner.weights.parameters())) for built in (one, other))
    assert not torch.equal(weights, other_weights)
    one, other = (
        Loader(one.data.train, 100, Augment([Crop(pad=1)]), mean=[0.0], std=[1.0], num_classes=10, shuffle=True, seed=s) for s in (0, 1)
    )
    corners = [sorted(map(tuple, next(loader.epoch()).images.flatten(1).tolist())) for loader in (one, other)]
    assert corners[0] != corners[1]


def test_averaged_weights_follow_the_definition() -> None:
    built = parts("ema=0.5")
    expected = None
    for batch in list(built.train.epoch())[:3]:
        built.learner.step(*batch)
        now = built.learner.model.module.head[-1].weight.detach().clone()
        expected = now if expected is None else 0.5 * expected + 0.5 * now
    torch.testing.assert_close(built.learner.weights.head[-1].weight.detach(), expected)


def test_weight_decay_spares_norms_and_biases() -> None:
    model = ResNet(1, 3, layers=[1], width=4)
    decayed, spared = parameter_groups(model, decay_norm_and_bias=False)
    assert {*map(id, decayed["params"]), *map(id, spared["params"])} == {*map(id, model.parameters())}
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert spared["weight_decay"] == 0 and all(parameter.ndim == 1 for parameter in spared["params"])


@pytest.mark.parametrize("shape", [(16, 9), (16, 144), (64, 288), (32, 16)])
def test_muon_s_matrix_keeps_its_directions_and_evens_their_lengths(shape) -> None:
    torch.manual_seed(0)
    left, lengths, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    lengths = torch.logspace(0, -1.5, len(lengths))  # from 1 down to 0.03
    made = left.T @ orthogonal(left @ lengths.diag() @ right) @ right.T / max(shape[0] / shape[1], 1) ** 0.5
    assert (made - made.diag().diag()).abs().max() < 1e-4
    assert made.diag().min() > 0.6 and made.diag().max() < 1.3


def test_muon_s_step_on_a_convolution_is_orthogonal() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
    weight.grad = torch.randn_like(weight)
    Muon([weight], lr=0.1, momentum=0.9).step()
    torch.testing.assert_close(weight.data.flatten(1), -0.1 * orthogonal(weight.grad.flatten(1)))  # whatever its scale


def test_muon_is_sgd_on_what_is_no_convolution() -> None:
    torch.manual_seed(0)
    start, target = torch.randn(10, 64), torch.randn(10, 64)

    def trained(make):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make([parameter])
        for _ in range(20):
            optimizer.zero_grad()
            ((parameter - target) ** 2).sum().backward()
            optimizer.step()
        return parameter

    ours = trained(lambda parameters: Muon(parameters, lr=0.005, momentum=0.8, sgd_factor=2.0))
    theirs = trained(lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.8, nesterov=True))
    torch.testing.assert_close(ours, theirs)
    decayed = Muon([torch.nn.Parameter(start.clone())], lr=0.1, weight_decay=0.5)
    (parameter,) = decayed.param_groups[0]["params"]
    parameter.grad = torch.zeros_like(start)
    decayed.step()
    torch.testing.assert_close(parameter.data, 0.95 * start)


def test_every_image_counts_once_in_the_scores() -> None:
    built = parts()
    scores = built.learner.scores(built.test.epoch(), keep_logits=True)
    labels = built.data.test.labels
    assert len(scores.logits) == len(labels)
    assert scores.accuracy == pytest.approx((scores.logits.argmax(1) == labels).double().mean().item())
    assert scores.loss == pytest.approx(torch.nn.functional.cross_entropy(scores.logits, labels).item(), rel=1e-5)


def test_best_is_the_highest_accuracy_then_the_lowest_loss() -> None:
    progress = Progress()
    judged = []
    for step, (accuracy, loss) in enumerate([(0.8, 1.0), (0.9, 1.0), (0.9, 1.2), (0.9, 0.8), (0.7, 0.1)], 1):
        progress.step = step
        judged.append(progress.judge(Scores(loss, accuracy).by_name))
    assert judged == [True, True, False, True, False]
    assert (progress.best_step, progress.evaluations_since_best) == (4, 1)


@pytest.mark.parametrize("augment", ["translate", "crop_flip", "cutout", "mixup", "cutmix"])
def test_a_step_never_waits_for_the_device(augment) -> None:
    """On torch's meta device, which has no values to wait for: reading one, as item() or nonzero() do, is an error."""
    meta = torch.device("meta")
    config = compose("data=digits", f"augment={augment}", "optimizer.fused=null")
    data = build_data(config)
    model = meta_model(config, data.channels, len(data.classes)).train()
    optimizer = build_optimizer(config, model)
    objective = build_objective(config, meta, num_classes=10, class_counts=[1] * 10)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    average = AveragedModel(model)
    learner = Learner(fabric=Waiting(), model=model, optimizer=optimizer, scheduler=schedule, objective=objective, average=average)
    settings = {"mean": data.mean, "std": data.std, "num_classes": 10, "shuffle": True, "device": meta}
    batches = Loader(data.train, 100, build_augment(config), **settings).epoch()
    sums = [learner.step(*next(batches)) for _ in range(2)]
    assert sums[0].device == meta and sums[0].shape == (3,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        sums[0].tolist()


class Waiting:
    """Of Fabric what a step needs, on one device."""

    world_size = 1

    def no_backward_sync(self, model, enabled):
        return nullcontext()

    def backward(self, loss) -> None:
        loss.backward()
