"""Every config composes and passes the checks; identity knows what matters."""

import configparser
import re
import shlex

import pytest
import yaml
from conftest import ROOT, compose

from resnet.config import config_hash
from resnet.config.hashing import as_text, identity
from resnet.sweeps.grid import compose_jobs, read_sweep

OPTIONS = sorted(
    (
        str(file.relative_to(ROOT / "conf").parts[0]),
        str(file.relative_to(ROOT / "conf" / file.relative_to(ROOT / "conf").parts[0]).with_suffix("")),
    )
    for file in (ROOT / "conf").glob("*/**/*.yaml")
    if "hydra" not in file.parts and file.stem != "custom"  # which a _target_ completes
)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group: str, option: str) -> None:
    needed = {"distillation": ["loss.teacher=x"], "torchvision": ["data.dataset=SVHN"]}
    needed |= {name: ["model.weights=x"] for name in ("finetune", "linear_probe")}
    config = compose(f"{group}={option}", "data.path=x", *needed.get(option, []))
    assert len(config_hash(config)) == 64


def printed_commands() -> list[str]:
    """The calls of train.py in the code blocks of README.md and the studies."""
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "experiments").glob("*/README.md"))):
        blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        found += [line for line in lines if re.match(r"(python|torchrun --nproc-per-node 2) train\.py", line) and "--help" not in line]
    return found


@pytest.mark.parametrize("command", printed_commands())
def test_printed_commands_compose(command: str) -> None:
    words = shlex.split(command, comments=True)
    arguments = words[words.index("train.py") + 1 :]
    if {"-m", "sweep"} & {text.partition("=")[0] for text in arguments}:
        sweep = read_sweep(arguments)
        assert sweep.is_search or not [job.error for job in compose_jobs(sweep) if job.error]
    else:
        compose(*arguments)


def test_the_readme_lists_every_option() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    for group in ("model", "data", "augment", "optimizer", "scheduler", "fabric", "wandb"):
        options = {option for folder, option in OPTIONS if folder == group and option != "custom"}
        written = re.sub(r"(resnet|plain)(\d+)((?: / \d+)+)", lambda found: found[0].replace(" / ", f" {found[1]}"), table[group])
        assert options <= set(re.findall(r"\w+", written)), group


def test_the_articles_experiment_is_the_articles() -> None:
    config = compose("experiment=article")
    assert (config.batch_size, config.epochs, config.lr, config.log_every) == (32, 100, 0.001, 100)
    assert config.optimizer["_target_"] == "torch.optim.Adam"
    assert as_text(config.augment) == "crop(pad=4,size=32)+flip"
    assert (config.model["layers"], config.model["shortcut"], config.model["init"]) == ([2, 2, 2], "projection_3x3", "default")


@pytest.mark.parametrize(("option", "n"), [("resnet20", 3), ("plain56", 9), ("resnet110", 18)])
def test_the_papers_recipe(option: str, n: int) -> None:
    config = compose(f"experiment=he2015/{option}", "data=arrays", "data.path=x")
    assert config.model["layers"] == [n] * 3
    assert config.model["shortcut"] == ("none" if option.startswith("plain") else "zero_pad")
    assert (config.max_steps, config.lr, config.data.val_size) == (64_000, 0.1, 5000)
    assert config.scheduler["milestones"] == [32_000, 48_000]
    assert (as_text(config.augment), config.optimizer["nesterov"]) == ("crop(pad=4)+flip", False)


def test_command_line_wins_over_experiment_and_optimizer() -> None:
    assert compose("experiment=article", "lr=0.5", "epochs=2").lr == 0.5
    assert compose("optimizer=adam").lr == 0.001
    assert compose("optimizer=adam", "lr=0.5").optimizer["lr"] == 0.5


def test_no_data_set_of_digits_is_flipped() -> None:
    for choice in ("", "augment=cutout", "augment=mixup", "augment=cutmix"):
        for data in ("digits", "mnist"):
            assert "flip" not in as_text(compose(f"data={data}", *filter(None, [choice])).augment)


def test_hash_ignores_where_and_how_it_is_watched() -> None:
    same = compose("name=x", "wandb=disabled", "data.root=/elsewhere", "fabric=cpu", "lr=0.2", "sweep.name=s")
    assert config_hash(compose()) == config_hash(same)
    assert config_hash(compose("data.mean=0", "lr=1")) == config_hash(compose("data.mean=0.0", "lr=1.0"))
    for change in ("seed=1", "lr=0.3", "fabric.precision=bf16-mixed", "compile=true", "model.width=8", "data.val_size=100"):
        assert config_hash(compose(change)) != config_hash(compose())


def test_a_key_that_was_added_later_leaves_the_hash_of_old_runs() -> None:
    assert not {"callbacks", "model.weights"} & identity(compose()).keys()
    assert "model.weights" in identity(compose("model.weights=x"))


def test_setup_lock_and_environment_agree() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].split("\n") + "\n".join(setup["options.extras_require"].values()).split("\n")
    names = {re.split(r"[<>=]", line)[0].strip().lower() for line in wanted if line.strip()}
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert names - {"pytorch-lightning", "datasets"} <= locked  # `make bench` keeps the one apart; the other is for who has such data
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["dependencies"][-1]["pip"] == ["-r requirements.lock"]  # pip takes nothing without a hash beside it
    assert f"python{setup['options']['python_requires']}" in conda["dependencies"]


def test_the_table_of_faults_names_tests_that_are_there() -> None:
    told = set(re.findall(r"\b(test_\w+)(?:::(test_\w+))?", (ROOT / "docs" / "faults.md").read_text("utf-8")))
    there = {path.stem: path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    assert len(told) > 60
    assert [(file, name) for file, name in told if file not in there or f"def {name}" not in there[file] + "def "] == []
