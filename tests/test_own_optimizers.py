"""Optimizers of one's own, from a file outside the package; groups by name; schedules that follow a metric."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, call, compose
from test_resume import assert_same, timeless
from torch import nn

from resnet.build import build, build_groups, try_optimizer
from resnet.build_fabric import build_fabric
from resnet.config import UserError, config_hash
from resnet.training.optim.groups import depth_factors

OWN = '''
import os
import signal
import torch
from torch.optim import SGD, Optimizer


class Lion(Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, params, lr: float = 1e-4, betas: list[float] = (0.9, 0.99), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                first, second = group["betas"]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(torch.sign(first * average + (1 - first) * weight.grad), alpha=group["lr"])
                average.mul_(second).add_(weight.grad, alpha=1 - second)


class SAM(Optimizer):
    """Foret et al. 2021, as torch's optimizers use a closure: it is asked first for the gradients here, then for those uphill."""

    def __init__(self, params, lr: float, rho: float = 0.05, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "momentum": momentum, "weight_decay": weight_decay})
        self.inner = SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.state = self.inner.state

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        moved = self.uphill()
        with torch.enable_grad():
            closure()
        self.back(moved)
        self.inner.param_groups, self.inner.state = self.param_groups, self.state
        self.inner.step()
        return loss

    def uphill(self):
        weights = [(weight, group["rho"]) for group in self.param_groups for weight in group["params"]]
        norm = torch.stack([weight.grad.norm() for weight, _ in weights]).norm() + 1e-12
        moved = []
        for weight, rho in weights:
            moved.append((weight, weight.clone()))
            weight.add_(weight.grad * (rho / norm))
        return moved

    def back(self, moved):
        for weight, before in moved:
            weight.copy_(before)


class CommonSAM(SAM):
    """As most write it: gradients are there before step(closure), which calls it once after it has moved the weights."""

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "a closure is needed"
        moved = self.uphill()
        self.zero_grad()
        torch.enable_grad()(closure)()
        self.back(moved)
        self.inner.param_groups, self.inner.state = self.param_groups, self.state
        self.inner.step()


class ScheduleFree(Optimizer):
    """Defazio et al. 2024, algorithm 1, on SGD: gradients at y, an average x of the weights z, which is what is evaluated."""

    def __init__(self, params, lr: float = 1.0, beta: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay, "steps": 0, "is_training": False})

    def train(self):
        self.mix(True, lambda y_share: 1 - 1 / y_share, lambda x, z, beta: x.lerp_(z, 1 - beta))

    def eval(self):
        self.mix(False, None, lambda y, z, beta: y.lerp_(z, 1 - 1 / beta))

    @torch.no_grad()
    def mix(self, is_training, _, move):
        for group in self.param_groups:
            if group["is_training"] != is_training:
                for weight in group["params"]:
                    if "z" in self.state[weight]:
                        move(weight, self.state[weight]["z"], group["beta"])
                group["is_training"] = is_training

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            assert group["is_training"], "call train() first"
            group["steps"] += 1
            share, beta, lr = 1 / group["steps"], group["beta"], group["lr"]
            for y in group["params"]:
                z = self.state[y].setdefault("z", y.clone())
                gradient = y.grad + group["weight_decay"] * y
                y.lerp_(z, share).add_(gradient, alpha=lr * (beta * (1 - share) - 1))
                z.sub_(gradient, alpha=lr)


class KilledOnce(ScheduleFree):
    def step(self, closure=None):
        super().step()
        if self.param_groups[0]["steps"] == 7 and os.path.exists("kill"):
            os.remove("kill")
            os.kill(os.getpid(), signal.SIGTERM)


class Forgetful(SGD):
    """Keeps a count that it does not save."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.sub_(weight.grad, alpha=group["lr"] * self.count)


class Strange(SGD):
    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.param_groups[0]["rule"] = Lion


class Failing(SGD):
    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        raise RuntimeError("no such kernel")


class Greedy(SGD):
    """Asks for the loss at many weights."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr=lr)

    def step(self, closure):
        for _ in range(10):
            closure()
            super().step()
'''
DATA = ("data=digits", "model.layers=[1]", "model.width=4", "batch_size=256", "model.dropout=0.2", "fabric=cpu")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "lab", raising=False)
    return tmp_path


def config(*overrides, **optimizer):
    """The settings of `optimizer` are all that it has."""
    composed = compose(*DATA, *overrides)
    return replace(composed, optimizer={"_partial_": True, **optimizer}) if optimizer else composed


def built(*overrides, **optimizer):
    made = config(*overrides, **optimizer)
    return build(made, build_fabric(made))


def trained(*overrides, steps=4, **optimizer):
    parts = built(*overrides, **optimizer)
    for batch in list(parts.train.epoch())[:steps]:
        parts.learner.step(*batch)
    return parts.learner


def state_of(learner):
    return {name: value.clone() for name, value in learner.bare_model.state_dict().items()}


SGD = {"_target_": "torch.optim.SGD", "lr": 0.2, "momentum": 0.9, "weight_decay": 0.01}
CLIPPED = ("clip_grad_norm=0.5", "accumulate=2")


@pytest.mark.numeric
@pytest.mark.parametrize("convention", ["SAM", "CommonSAM"])
def test_sam_without_a_radius_is_sgd_bit_for_bit(lab, convention) -> None:
    """Weights and running statistics, with dropout, clipping and accumulation."""
    plain = trained(*CLIPPED, **SGD)
    flat = trained(*CLIPPED, **{**SGD, "_target_": f"lab.{convention}", "rho": 0.0})
    assert flat.needs_closure and not plain.needs_closure
    assert_same(state_of(flat), state_of(plain))


@pytest.mark.numeric
def test_both_conventions_of_sam_take_the_step_of_the_definition(lab) -> None:
    """The gradient at weights that were moved by rho along the gradient, with the dropout and the statistics of the first."""
    plain = {**SGD, "momentum": 0.0, "weight_decay": 0.0}
    one, other = (trained(steps=1, **{**plain, "_target_": f"lab.{name}", "rho": 0.1}) for name in ("SAM", "CommonSAM"))
    assert_same(state_of(one), state_of(other))
    expected = built(**plain)
    batch, model = next(expected.train.epoch()), expected.learner.bare_model.train()
    weights, random = list(model.parameters()), torch.get_rng_state()

    def gradients():
        torch.set_rng_state(random)
        loss = nn.functional.cross_entropy(model(batch.images), batch.targets, label_smoothing=0.1)
        return torch.autograd.grad(loss, weights)

    start, first = [weight.detach().clone() for weight in weights], gradients()
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    length = torch.stack([gradient.norm() for gradient in first]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, first, strict=True):
            weight.add_(gradient * (0.1 / length))
    uphill, lr = gradients(), expected.learner.lr
    for name, before, gradient in zip(dict(model.named_parameters()), start, uphill, strict=True):
        torch.testing.assert_close(one.bare_model.get_parameter(name).detach(), before - lr * gradient, rtol=1e-4, atol=1e-6)
    for name, buffer in statistics.items():
        torch.testing.assert_close(one.bare_model.get_buffer(name), buffer)


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_what_an_optimizer_cannot_do_is_one_line(lab) -> None:
    for optimizer, overrides, told in (
        ({"_target_": "torch.optim.LBFGS", "lr": 0.2}, (), "LBFGS evaluates the loss many times"),
        ({"_target_": "lab.Greedy", "lr": 0.2}, (), "lab.Greedy evaluates the loss many times"),
        ({"_target_": "lab.Failing", "lr": 0.2}, (), "lab.Failing: its step fails (RuntimeError: no such kernel)"),
        ({"_target_": "lab.Strange", "lr": 0.2}, (), "lab.Strange: its state, or its schedule's, cannot be saved"),
        ({"_target_": "lab.SAM", "lr": 0.2}, ("fabric.precision=16-mixed",), "fabric.precision=16-mixed: lab.SAM steps with a closure"),
    ):
        with pytest.raises(UserError, match=r"^[^\n]*$") as error:
            built(*overrides, **optimizer)
        assert told in str(error.value)


def test_state_that_is_not_saved_is_warned_of(lab, capsys) -> None:
    built(_target_="lab.Forgetful", lr=0.1)
    assert "lab.Forgetful: its state_dict leaves out some of its state" in capsys.readouterr().err
    built(_target_="lab.SAM", lr=0.1)
    assert capsys.readouterr().err == ""


def test_a_dry_step_draws_no_random_numbers(lab) -> None:
    """Else the first dropout would hang on it."""
    made = config(_target_="lab.SAM", lr=0.1)
    parts = built()
    before = torch.get_rng_state()
    assert try_optimizer(made, parts.learner.bare_model, parts.plan)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.numeric
def test_schedule_free_weights_are_those_of_the_definition_and_saving_leaves_them(lab) -> None:
    learner = trained(_target_="lab.ScheduleFree", lr=0.5, beta=0.8)
    optimizer, before = learner.bare_optimizer, state_of(learner)
    state = learner.state()
    assert_same(state_of(learner), before)
    assert_same(state["model_in_training"], before)
    name, y = next(iter(learner.bare_model.named_parameters()))
    z = optimizer.state[y]["z"]
    x = (y.detach() - (1 - 0.8) * z) / 0.8  # of y = (1 - beta) z + beta x
    torch.testing.assert_close(state["model"][name], x)
    learner.modes.set(is_training=False)
    torch.testing.assert_close(y.detach(), x)


@pytest.mark.slow
def test_a_stopped_schedule_free_run_goes_on_bit_for_bit_and_is_evaluated_as_it_was(lab) -> None:
    own = ("scheduler=constant", "optimizer=rmsprop", "optimizer._target_=lab.KilledOnce", "~optimizer.alpha", "~optimizer.momentum")
    common = (*DATA, *own, "epochs=2", "lr=0.5", "data.val_size=200", "log_every=2")
    (lab / "kill").touch()
    call(lab, ROOT / "train.py", *common, "name=stopped", status=75)
    shutil.copytree(lab / "outputs" / "stopped", lab / "outputs" / "half")
    for name in ("stopped", "whole"):
        call(lab, ROOT / "train.py", *common, f"name={name}")
    stopped, whole, half = (lab / "outputs" / name for name in ("stopped", "whole", "half"))
    contents = [torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (stopped, whole)]
    assert_same(*({**timeless(content), "rows": None} for content in contents))
    in_the_middle = torch.load(half / "checkpoints" / "last.pt", weights_only=True)
    name, y = next((key, value) for key, value in in_the_middle["model_in_training"].items() if key.endswith("weight"))
    assert not torch.equal(in_the_middle["model"][name], y)
    told = call(lab, "-m", "resnet", "evaluate", whole, "--allow", "lab", "--json").stdout
    assert json.loads(told)["accuracy"]["value"] == json.loads((whole / "summary.json").read_text())["test"]["accuracy"]


@pytest.mark.full
def test_lion_trains_in_a_sweep(lab) -> None:
    own = ("optimizer=adam", "optimizer._target_=lab.Lion", "~optimizer.fused", "lr=0.01", "optimizer.weight_decay=0,0.1", "batch_size=64")
    call(lab, ROOT / "train.py", "-m", *DATA, *own, "epochs=2", "sweep.name=lion")
    summaries = [json.loads(file.read_text()) for file in (lab / "multirun" / "lion").glob("*/summary.json")]
    assert len(summaries) == 2 and all(one["test"]["accuracy"] > 0.2 for one in summaries)  # 0.1 by chance


def test_schedule_free_of_its_package(lab) -> None:
    pytest.importorskip("schedulefree", reason="pip install schedulefree")
    learner = trained("scheduler=constant", _target_="schedulefree.SGDScheduleFree", lr=0.5)
    before = state_of(learner)
    state = learner.state()
    assert_same(state_of(learner), before)
    assert any(not torch.equal(state["model"][name], value) for name, value in before.items())


FROZEN = "optimizer.groups=[{match:stem,frozen:true},{match:'stages.0.*.residual.0',lr_scale:0.1,weight_decay:0.02}]"


@pytest.mark.numeric
def test_a_frozen_stem_stays_as_it_is_with_its_running_statistics() -> None:
    before = state_of(built().learner)
    learner = trained(FROZEN)
    after = state_of(learner)
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith("stem."), name
    assert not learner.bare_model.stem.training and learner.bare_model.head.training
    assert learner.lr == trained().lr  # without the factor


def test_groups_have_their_settings_and_keep_vectors_from_decay() -> None:
    made = config(FROZEN, "model.layers=[1,1]", "optimizer.layer_decay=0.5")
    model = built("model.layers=[1,1]").learner.bare_model
    groups = build_groups(made, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(one)]: group for group in groups for one in group["params"]}
    assert {*found} == {name for name in names.values() if not name.startswith("stem.")}
    assert all(
        ("weight_decay" in group and group["weight_decay"] == 0) == (model.get_parameter(name).ndim <= 1) for name, group in found.items()
    )
    assert {name: group.get("lr_scale", 1.0) for name, group in found.items() if ".residual.0." in name or "head" in name} == {
        "stages.0.0.residual.0.weight": pytest.approx(0.025),
        "stages.1.0.residual.0.weight": 0.5,
        **{name: 1.0 for name in found if name.startswith("head")},
    }


def test_layer_decay_counts_blocks_and_a_lone_normalisation_with_what_is_before_it() -> None:
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 4, 3))
    model.add_module("bn1", nn.BatchNorm2d(4))
    model.add_module("layer1", nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3)), nn.Sequential(nn.Conv2d(4, 4, 3))))
    model.add_module("fc", nn.Linear(4, 2))
    factors = depth_factors(model, 0.5)
    assert {name: value for name, value in factors.items() if name.endswith("weight")} == {
        "conv1.weight": 0.125,
        "bn1.weight": 0.125,
        "layer1.0.0.weight": 0.25,
        "layer1.1.0.weight": 0.5,
        "fc.weight": 1.0,
    }


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (
            "[{match:stm,frozen:true}]",
            r"optimizer.groups\[0\].match=stm: it matches nothing \(did you mean stem\?\); the model has stem, stages, head",
        ),
        ("[{match:stem},{match:stem.0}]", r"groups\[1\].match=stem.0: groups before it have all its parameters"),
        ("[{match:'*',frozen:true}]", "all parameters are frozen"),
        ("[{match:stem,weight_decy:0}]", r"groups\[0\].weight_decy: unknown key \(did you mean weight_decay\?\)"),
        ("[{match:stem,lr:0.1}]", "lr is one for all parameters; lr_scale"),
        ("[{match:stem,lr_scale:0}]", r"groups\[0\].lr_scale=0.0: out of range; it must be above 0"),
        ("[{frozen:true}]", "a group says which parameters it is of"),
        ("[{match:stem,frozen:3.5}]", r"groups\[0\].frozen=3.5"),
    ],
)
def test_mistakes_in_groups_are_one_line(groups, told) -> None:
    with pytest.raises(UserError, match=told) as error:
        built(f"optimizer.groups={groups}")
    assert "\n" not in str(error.value)


def test_groups_at_their_defaults_are_no_part_of_the_config_hash() -> None:
    whole = compose()
    without = {name: value for name, value in whole.optimizer.items() if name not in ("groups", "layer_decay")}
    assert config_hash(replace(whole, optimizer=without)) == config_hash(whole)
    assert config_hash(compose("optimizer.layer_decay=0.5")) != config_hash(whole)


def test_a_schedule_that_evens_the_rates_of_groups_is_one_line() -> None:
    cyclic = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "_partial_": True, "max_lr": 0.1}
    made = replace(config("optimizer.layer_decay=0.5"), scheduler=cyclic)
    with pytest.raises(UserError, match="OneCycleLR gives all parameters one lr"):
        build(made, build_fabric(made))


def test_reduce_lr_on_plateau_goes_by_the_held_out_loss(lab) -> None:
    """Which hardly falls where lr is next to nothing: with patience 0 each evaluation after the first divides it."""
    plateau = ("scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=0.5", "scheduler.factor=0.25")
    call(lab, ROOT / "train.py", *DATA, *plateau, "lr=0.000001", "epochs=3", "data.val_size=200", "name=a")
    lines = [line.split(",") for line in (lab / "outputs" / "a" / "metrics.csv").read_text().splitlines()]
    rates = [float(line[lines[0].index("lr")]) for line in lines[1:] if line[lines[0].index("val/loss")]]
    assert rates == pytest.approx([1e-6, 1e-6, 0.25e-6])


@pytest.mark.full
def test_two_processes_train_with_a_frozen_stem_and_probes(lab) -> None:
    two = (
        "fabric=ddp",
        "fabric.devices=2",
        "fabric.accelerator=cpu",
        "callbacks=[grad_norm,update_ratio]",
        "max_steps=3",
        "model.norm=group",
    )
    call(lab, ROOT / "train.py", *(text for text in DATA if text != "fabric=cpu"), *two, FROZEN, "name=two")
    header, first, *_ = (lab / "outputs" / "two" / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert row["grad_norm/stem.0"] == "" and all(float(row[name]) > 0 for name in row if name.startswith("grad_norm/head"))
