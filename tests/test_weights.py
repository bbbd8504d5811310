"""Weights in and out: torchvision's, timm's and the Hub's networks start a run, and export gives them back."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rounding import assert_same_scores
from torch import Tensor, nn

import resnet
from resnet.analysis.export import export
from resnet.analysis.saved import load_model, open_run
from resnet.build import build_groups
from resnet.build_model import build_model
from resnet.build_weights import load_weights, weights_file
from resnet.config import UserError, config_hash
from resnet.config.cli import compose_config
from resnet.facts import weights_digest
from resnet.models import ResNet
from resnet.models.facts import classifier_of
from resnet.models.weights import WeightsError, fit_weights

pytestmark = pytest.mark.numeric
QUICK = ("data=arrays", "data.path=photos.npz", "batch_size=16", "limit_batches=1", "wandb=disabled", "fabric=cpu", "augment=none")
SMALL = ("model=resnet18", "model.layers=[1,1,1,1]")


def small_torchvision(num_classes: int = 1000, **settings: Any) -> Any:
    """torchvision's ResNet of one basic block a stage, with values as if it had been trained."""
    from torchvision.models.resnet import BasicBlock
    from torchvision.models.resnet import ResNet as Theirs

    torch.manual_seed(1)
    model = Theirs(settings.pop("block", BasicBlock), [1, 1, 1, 1], num_classes=num_classes, **settings)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with gray photographs of five classes, and torchvision's weights as a state dict and as safetensors."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % 5
    images = (random.random((80, 64, 64)) * 60 + 30 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "photos.npz", x_train=images[:60], y_train=labels[:60], x_test=images[60:], y_test=labels[60:])
    torch.save(small_torchvision().state_dict(), tmp_path / "theirs.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def start(*words: str) -> tuple[ResNet, list[str]]:
    """The model that a run begins with, and its notes about the weights."""
    config = compose_config([*SMALL, *words])
    torch.manual_seed(0)
    model = build_model(config, 1, 5)
    return model, load_weights(model, config)


def kept(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.slow
def test_a_run_from_torchvision_s_weights_says_what_it_changed(lab: Path) -> None:
    trained = resnet.train(["experiment=finetune", *QUICK, *SMALL, "model.weights=theirs.pth", "epochs=0", "name=a"])
    notes = trained.summary["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "images of 64 pixels are 16 behind the stem and 2 at the end",
        *["model.weights"] * 2,
    ]
    assert notes[1] == "model.weights: classifier starts anew (model.weights_skip)"
    assert notes[2].startswith(
        "model.weights: the file's first convolution takes 3 channels, and the data have 1: stem.0 is summed over them"
    )
    log = (lab / "outputs" / "a" / "train.log").read_text()
    assert all(f"note: {note}" in log for note in notes)
    model = load_model(open_run(lab / "outputs" / "a"))[0]
    theirs = torch.load("theirs.pth")
    torch.testing.assert_close(model.get_parameter("stem.0.weight"), theirs["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(model.get_parameter("stages.3.0.residual.3.weight"), theirs["layer4.0.conv2.weight"])
    assert trained.summary["weights"] == weights_digest("theirs.pth")


@pytest.mark.slow
def test_a_linear_probe_leaves_all_but_the_classifier_bit_for_bit(lab: Path) -> None:
    before, _ = start("model.weights=theirs.pth", "model.weights_skip=[classifier]")
    chosen = ("experiment=linear_probe", *QUICK, *SMALL, "model.weights=theirs.pth", "limit_batches=null", "ema=0.5", "epochs=1", "name=a")
    resnet.train(chosen)
    after = torch.load("outputs/a/checkpoints/last.pt", weights_only=True)
    for values in (after["model"], {name.removeprefix("module."): value for name, value in after["average"].items()}):
        changed = [name for name, value in before.state_dict().items() if not torch.equal(values[name], value)]
        assert sorted(changed) == ["head.3.bias", "head.3.weight"]  # and no running statistic


@pytest.mark.parametrize(
    ("experiment", "rates"),
    [
        ("experiment=finetune", {"classifier": 1.0, "body": 1.0}),
        ("experiment=finetune optimizer.groups.1.lr_scale=0.2", {"classifier": 1.0, "body": 0.2}),
        ("experiment=linear_probe", {"classifier": 1.0}),
    ],
)
@pytest.mark.parametrize("model", ["ours", "torchvision"])
def test_learning_rates_of_the_ready_experiments(lab: Path, experiment: str, rates: Mapping[str, float], model: str) -> None:
    network = [] if model == "torchvision" else SMALL
    words = ["model._target_=torchvision.models.resnet18"] if model == "torchvision" else []
    config = compose_config([*experiment.split(), *network, *words, "model.weights=theirs.pth"])
    made = build_model(config, 3, 5)
    head = classifier_of(made)
    assert head is not None
    own = {id(parameter) for parameter in made.get_submodule(head).parameters()}
    found: dict[str, float] = {}
    for group in build_groups(config, made):
        where = {"classifier" if id(parameter) in own else "body" for parameter in group["params"]}
        assert len(where) == 1
        assert found.setdefault(where.pop(), group.get("lr_scale", 1.0)) == group.get("lr_scale", 1.0)
    assert found == rates


def test_other_classes_start_a_new_head_and_the_same_number_keeps_it(lab: Path) -> None:
    fresh, _ = start("model.weights=theirs.pth")
    torch.manual_seed(0)
    assert torch.equal(fresh.head[3].weight, build_model(compose_config(SMALL), 1, 5).head[3].weight)
    _, notes = start("model.weights=theirs.pth")
    assert "model.weights: the file has 1,000 classes, the data 5: head.3 starts anew" in notes
    five = small_torchvision(5)
    torch.save(five.state_dict(), "five.pth")
    model, notes = start("model.weights=five.pth")
    assert torch.equal(model.head[3].weight, five.fc.weight) and not any("anew" in note for note in notes)


def test_what_is_skipped_starts_anew(lab: Path) -> None:
    theirs = torch.load("theirs.pth")
    model, notes = start("model.weights=theirs.pth", "model.weights_skip=[head.*,stages.3]")
    assert [note for note in notes if "weights_skip" in note] == [
        "model.weights: head.* starts anew (model.weights_skip)",
        "model.weights: stages.3 starts anew (model.weights_skip)",
    ]
    assert not torch.equal(model.stages[3][0].residual[0].weight, theirs["layer4.0.conv1.weight"])
    assert torch.equal(model.stages[2][0].residual[0].weight, theirs["layer3.0.conv1.weight"])


def test_gray_weights_take_colour_images_and_give_the_same_scores_for_gray_ones() -> None:
    gray, colour = ResNet(1, 5, layers=[1, 1]).eval(), ResNet(3, 5, layers=[1, 1]).eval()
    fitted = fit_weights(colour, gray.state_dict())
    colour.load_state_dict(fitted.tensors)
    images = torch.rand(2, 1, 8, 8)
    assert_same_scores(colour(images.expand(-1, 3, -1, -1)), gray(images), gray)
    assert fitted.notes == ["the file's first convolution takes 1 channel, and the data have 3: stem.0 has a third for each"]


def test_colour_weights_see_a_gray_image_as_one_of_three_equal_channels() -> None:
    gray, colour = ResNet(1, 5, layers=[1, 1]).eval(), ResNet(3, 5, layers=[1, 1]).eval()
    gray.load_state_dict(fit_weights(gray, colour.state_dict()).tensors)
    images = torch.rand(2, 1, 8, 8)
    assert_same_scores(gray(images), colour(images.expand(-1, 3, -1, -1)), colour)


def test_a_gigantic_first_convolution_is_a_mismatch_like_any_other() -> None:
    gray, colour = ResNet(1, 5, layers=[1, 1]), ResNet(3, 5, layers=[1, 1])
    weights = {**colour.state_dict(), "stem.0.weight": torch.ones(1).expand(16, 3, 10**7, 10**7)}
    with pytest.raises(WeightsError, match=r"stem\.0\.weight: file \(16, 3, 10000000, 10000000\), model \(16, 1, 3, 3\)"):
        fit_weights(gray, weights)


MISTAKES = {
    "model.weights=theirs.pth model.weights_skip=[heat]": "heat matches nothing in the model (did you mean head?); the model has stem",
    "model.weights=theirs.pth model.layers=[2,1,1,1]": "model.layers=[1,1,1,1] model.block=basic model.width=64",
    "model.weights=timm/resnet18.a1_in1k": "the repository of this name on the Hugging Face Hub is hf:timm/resnet18.a1_in1k",
    "model.weights=nothing.pth": "model.weights=nothing.pth: there is no file nothing.pth",
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.items())
def test_weights_that_do_not_fit(lab: Path, words: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        start(*words.split(" "))
    assert message in str(told.value)


def test_parts_of_no_weights_cannot_be_left_out() -> None:
    with pytest.raises(UserError, match=r"^model\.weights_skip=\[head\]: there are no weights .*; give them with model\.weights=\.\.\.$"):
        compose_config(["model.weights_skip=[head]"])
    with pytest.raises(UserError, match=r"^model\.weights_skip=\[classifier\]: there are no weights"):
        compose_config(["experiment=finetune"])


def test_skipped_parts_belong_to_the_identity_of_a_run() -> None:
    one, other = (compose_config(["model.weights=x", f"model.weights_skip={skip}"]) for skip in ("[]", "[head]"))
    assert config_hash(one) == config_hash(compose_config(["model.weights=x"])) != config_hash(other)


def test_bottlenecks_of_torchvision_are_refused_where_the_stride_stands_in_the_1x1() -> None:
    from torchvision.models.resnet import Bottleneck

    theirs = small_torchvision(5, block=Bottleneck).state_dict()
    settings = {"layers": [1, 1, 1, 1], "width": 64, "block": "bottleneck", "shortcut": "projection_1x1", "stem": "conv7x7_pool"}
    assert not fit_weights(ResNet(3, 5, **settings, bottleneck_stride="3x3"), theirs).notes
    with pytest.raises(WeightsError, match=r"shapes fit, the scores would not; set model\.bottleneck_stride=3x3"):
        fit_weights(ResNet(3, 5, **settings), theirs)
    small = ResNet(3, 5, **{**settings, "stem": "conv3x3"})
    weights = {**theirs, "conv1.weight": theirs["conv1.weight"][..., :3, :3]}
    assert "if the scores are poor, set model.bottleneck_stride=3x3" in fit_weights(small, weights).notes[0]


def test_a_run_of_other_settings_that_no_shape_shows_is_told(lab: Path) -> None:
    chosen = (*QUICK, "model.layers=[1,1]", "epochs=0")
    resnet.train([*chosen, "name=a"])
    config = compose_config([*chosen, "model.weights=outputs/a", "model.activation=silu", "model.dropout=0.5"])
    notes = load_weights(build_model(config, 1, 5), config)
    assert notes == ["model.weights: model.activation was relu in the run of these weights, and is silu here"]


class Hub:
    """A stand-in for the Hugging Face Hub and its cache."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder, self.files, self.downloads = folder, files, list[tuple[str, str, str | None]]()
        self.error: Exception | None = None

    def try_to_load_from_cache(self, repository: str, file: str, revision: str | None = None) -> str | None:
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(repository)
        path = self.folder / "cache" / repository.replace("/", "--") / (revision or "main") / file
        return str(path) if path.exists() else None

    def hf_hub_download(self, repository: str, file: str, revision: str | None = None) -> str:
        from huggingface_hub.errors import EntryNotFoundError

        self.downloads.append((repository, file, revision))
        if self.error is not None:
            raise self.error
        if file not in self.files:
            raise EntryNotFoundError(f"404 {file}")
        path = self.folder / "cache" / repository.replace("/", "--") / (revision or "main") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((self.folder / self.files[file]).read_bytes())
        return str(path)


@pytest.fixture
def hub(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(torch.load("theirs.pth"), "theirs.safetensors")
    made = Hub(lab, {"model.safetensors": "theirs.safetensors", "pytorch_model.bin": "theirs.pth"})
    for name in ("try_to_load_from_cache", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
    return made


def test_weights_of_the_hub_are_downloaded_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = start("model.weights=hf:timm/resnet18.a1_in1k")
    assert hub.downloads == [("timm/resnet18.a1_in1k", "model.safetensors", None)]
    assert capsys.readouterr().err == "hf:timm/resnet18.a1_in1k: fetching it from the Hugging Face Hub\n"
    again, _ = start("model.weights=hf:timm/resnet18.a1_in1k")
    assert len(hub.downloads) == 1 and not capsys.readouterr().err
    assert torch.equal(model.stages[3][0].residual[0].weight, torch.load("theirs.pth")["layer4.0.conv1.weight"])
    assert all(torch.equal(*pair) for pair in zip(kept(model).values(), kept(again).values(), strict=True))


def test_a_repository_may_hold_pytorch_s_file_and_be_given_at_a_revision(hub: Hub) -> None:
    hub.files = {"pytorch_model.bin": "theirs.pth"}
    start("model.weights=hf:timm/resnet18.a1_in1k@refs")
    assert hub.downloads == [("timm/resnet18.a1_in1k", name, "refs") for name in ("model.safetensors", "pytorch_model.bin")]


@pytest.mark.slow
def test_a_run_from_the_hub_keeps_name_and_digest_and_starts_again_from_the_cache(hub: Hub) -> None:
    chosen = [*QUICK, *SMALL, "model.weights=hf:timm/resnet18.a1_in1k", "name=a"]
    summary = resnet.train([*chosen, "epochs=0"]).summary
    assert summary["weights"] == weights_digest("theirs.safetensors")
    assert open_run(Path("outputs/a")).config.model["weights"] == "hf:timm/resnet18.a1_in1k"
    resnet.train([*chosen, "epochs=0"])  # the same run, finished before
    (hub.folder / "theirs.safetensors").write_bytes((hub.folder / "theirs.pth").read_bytes())
    cached = weights_file("hf:timm/resnet18.a1_in1k")
    cached.write_bytes(b"other content")
    with pytest.raises(UserError, match=r"model\.weights: digest"):
        resnet.train([*chosen, "epochs=0"])
    assert len(hub.downloads) == 1


def hub_error(name: str) -> Exception:
    import httpx
    from huggingface_hub import errors

    kind = getattr(errors, name)
    if name in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        return kind("a long story\nof many lines")  # type: ignore[no-any-return]
    request = httpx.Request("GET", "https://hub/x")
    return kind("a long story\nof many lines", response=httpx.Response(404, request=request))  # type: ignore[no-any-return]


HUB_MISTAKES = {
    "LocalEntryNotFoundError": "it has not been downloaded before, and the Hugging Face Hub cannot be reached",
    "OfflineModeIsEnabled": "it has not been downloaded before, and the Hugging Face Hub cannot be reached",
    "RepositoryNotFoundError": "the Hugging Face Hub has no public repository timm/resnet18; for a private one: hf auth login",
    "GatedRepoError": "its owner asks for consent on its page",
    "RevisionNotFoundError": "timm/resnet18 has no revision v1",
    "HfHubHTTPError": "it cannot be downloaded (a long story of many lines)",
}


@pytest.mark.parametrize(("name", "message"), HUB_MISTAKES.items())
def test_what_the_hub_refuses_is_one_line(hub: Hub, name: str, message: str) -> None:
    hub.error = hub_error(name)
    with pytest.raises(UserError) as told:
        start("model.weights=hf:timm/resnet18@v1")
    assert str(told.value).startswith(f"model.weights=hf:timm/resnet18@v1: {message}") and "\n" not in str(told.value)


def test_mistakes_in_the_name_of_a_repository(hub: Hub) -> None:
    for name, message in {
        "hf:a--b//c": "a--b//c is no name of a repository; write hf:OWNER/NAME, as in hf:timm/resnet18.a1_in1k",
        "hf:timm/empty": "timm/empty has neither model.safetensors nor pytorch_model.bin",
    }.items():
        hub.files = {}
        with pytest.raises(UserError) as told:
            start(f"model.weights={name}")
        assert str(told.value) == f"model.weights={name}: {message}"
    with pytest.raises(UserError, match=r"it is not in the Hugging Face Hub's cache, and data\.download=false"):
        start("model.weights=hf:timm/resnet18", "data.download=false")
    assert weights_digest("hf:timm/resnet18") is None and not [one for one in hub.downloads if one[0] == "timm/resnet18"]


def test_without_the_package_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^model\.weights=hf:a/b: huggingface_hub is not installed; pip install -e '\.\[hub\]'$"):
        start("model.weights=hf:a/b")


def test_a_path_of_a_run_is_absolute_and_a_repository_is_not(lab: Path) -> None:
    from resnet.facts import _written

    assert _written(compose_config(["model.weights=theirs.pth"]))["model"]["weights"] == str(lab / "theirs.pth")
    assert _written(compose_config(["model.weights=hf:a/b"]))["model"]["weights"] == "hf:a/b"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), {}),
        (("model=resnext50_32x4d",), {"block": "Bottleneck", "groups": 32, "width_per_group": 4}),
        (("model=wide_resnet50_2",), {"block": "Bottleneck", "width_per_group": 128}),
    ],
)
def test_an_exported_network_loads_in_torchvision(lab: Path, words: tuple[str, ...], settings: dict[str, Any]) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    from torchvision.models import resnet as theirs

    with np.load("photos.npz") as photos:
        colour = {name: np.repeat(values[..., None], 3, axis=-1) if name.startswith("x") else values for name, values in photos.items()}
    np.savez("colour.npz", **colour)
    resnet.train([*QUICK, "data.path=colour.npz", *SMALL, *words, "model.layers=[1,1,1,1]", "max_steps=2", "epochs=null", "name=a"])
    run = open_run(lab / "outputs" / "a")
    told = export(run, ["safetensors"], None, lab / "out")
    assert told["names"] == "torchvision's" and told["written"]["safetensors"]["largest_difference"] == 0
    block = getattr(theirs, settings.pop("block", "BasicBlock"))
    network = theirs.ResNet(block, [1, 1, 1, 1], num_classes=5, **settings).eval()
    network.load_state_dict(safetensors.load_file(lab / "out" / "model.safetensors"))
    model = load_model(run)[0]
    images = torch.randn(2, 3, 64, 64)
    assert_same_scores(model(images), network(images), model)
    again = fit_weights(model, safetensors.load_file(lab / "out" / "model.safetensors"))  # and here
    assert all(torch.equal(value, again.tensors[name]) for name, value in model.state_dict().items())


def test_other_networks_keep_their_own_names(lab: Path) -> None:
    pytest.importorskip("safetensors.torch")
    resnet.train([*QUICK, "model.layers=[1,1]", "epochs=0", "name=a"])
    run = open_run(lab / "outputs" / "a")
    assert export(run, ["safetensors"], None, lab / "out")["names"] == "its own"
    assert fit_weights(load_model(run)[0], _read(lab / "out" / "model.safetensors")).notes == []


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)  # type: ignore[no-any-return]


def test_timm_s_checkpoints_give_their_averaged_weights(tmp_path: Path) -> None:
    from resnet.models.weights import read_weights

    plain, averaged = small_torchvision(5).state_dict(), small_torchvision(5).state_dict()
    averaged = {name: value + 1 for name, value in averaged.items()}
    torch.save({"arch": "resnet18", "state_dict": plain, "state_dict_ema": averaged, "args": {}}, tmp_path / "timm.pth.tar")
    assert torch.equal(read_weights(tmp_path / "timm.pth.tar")["fc.bias"], averaged["fc.bias"])
