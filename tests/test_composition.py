"""One composition for runs and sweeps: the user's own folders, experiments and what replaces their parts, names, saved configs."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, compose
from test_resume import finish, start
from test_run import summary

from resnet.config import UserError, config_hash, load_config
from resnet.config.arguments import as_typed, read_arguments
from resnet.config.cli import compose_config
from resnet.config.compose import read_request, with_settings, without_hydra
from resnet.sweeps.grid import compose_jobs, read_sweep
from resnet.sweeps.preflight import preflight

QUICK = ("data=digits", "epochs=1", "model.layers=[1]")
EXPERIMENTS = sorted(str(path.relative_to(ROOT / "conf/experiment").with_suffix("")) for path in (ROOT / "conf/experiment").rglob("*.yaml"))
OWN = {
    "experiment/mine": (
        "# @package _global_\ndefaults:\n  - override /data: digits\n  - override /optimizer: slow\nepochs: 1\nmodel:\n  layers: [1]\n"
    ),
    "optimizer/slow": "# @package _global_\ndefaults: [sgd]\nlr: 0.05\n",
    "sweep/mine": (
        "# @package _global_\ndefaults:\n  - override /experiment: mine\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 1,2\nsweep:\n  name: s\n"
    ),
}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of configs of the user's own, beside which the command is given."""
    for name, text in OWN.items():
        file = tmp_path / "mine" / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs_of(*arguments: str):
    return list(compose_jobs(read_sweep(arguments)))


@pytest.mark.parametrize(
    "given",
    [["--config-dir", "mine"], ["--config-dir=mine"], ["-cd", "mine"], ["hydra.searchpath=[mine]"], ["hydra.searchpath=[file://mine]"]],
)
def test_a_sweep_finds_the_users_own_configs(own, given) -> None:
    jobs = jobs_of(*given, "-m", "experiment=mine", "optimizer=slow,sgd", "seed=range(2)")
    assert [job.config and job.config.lr for job in jobs] == [0.05, 0.05, 0.2, 0.2] and len({job.id for job in jobs}) == 4
    assert [job.config and job.config.seed for job in jobs_of(*given, "sweep=mine")] == [1, 2]
    assert {job.overrides[0] for job in jobs_of(*given, "-m", "optimizer=glob(s*,exclude=sgd_*)")} == {"optimizer=sgd", "optimizer=slow"}
    with pytest.raises(UserError, match=r"optimizer=slwo: no such option \(did you mean slow\?\)"):
        read_sweep([*given, "-m", "optimizer=slwo", "seed=1,2"])


@pytest.mark.slow
def test_a_sweep_of_the_users_own_runs(train, own) -> None:
    output = finish(start(own, "hydra.searchpath=[mine]", "sweep=mine", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2"))
    assert "multirun/s: 2 of 2 jobs finished" in output and "[HYDRA]" not in output
    told = [summary(path.parent)["overrides"] for path in (own / "multirun" / "s").glob("*/summary.json")]
    assert sorted(told) == [["seed=1", "experiment=mine"], ["seed=2", "experiment=mine"]]
    output = train("-m", "--config-dir=mine", *QUICK, "optimizer=glob(*,exclude=[adam*,m*,r*,sgd_*])", "sweep.name=t").stdout
    assert "multirun/t: 2 of 2 jobs finished" in output and "slow" in output


@pytest.mark.slow
def test_what_to_try_next_finds_the_users_own_configs(train, own) -> None:
    output = train("--config-dir", "mine", "experiment=mine", "name=a").stdout
    offered = output[output.index("try next: ") :].splitlines()[0].removeprefix("try next: ")
    request = read_request(read_arguments(shlex.split(offered)[2:]))
    assert (request.config.data.name, request.config.model["layers"], request.config.lr) == ("digits", [2], 0.025)
    assert "try next" not in train("--config-path", "outputs/a", "name=b").stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"lr: 0.1", r"experiment: the keys of its file .* begin the file with the line `# @package _global_`"),
        (
            b"# @package _global_\nlr: [0.1",
            r"/mine/experiment/wrong.yaml: cannot be read \(line 2, column 9: expected .*\); mend the file",
        ),
        (b"# @package _global_\nname: caf\xe9", r"/mine/experiment/wrong.yaml: cannot be read \('utf-8' .*\); mend the file"),
        (b"# @package _global_\ndefaults: [wrong]", "in a circle"),
        (b"# @package _global_\ndefaults: [override optimizer: adam]", "experiment/wrong.yaml: .* write override /optimizer: OPTION"),
        (b"# @package _global_\ndefaults: [override /optimizr: adam]", r"no such group \(did you mean optimizer\?\)"),
        (b"# @package _global_\ndefaults: [/optimizer: adam]", "in a file's defaults: override /optimizer: OPTION"),
        (b"# @package _global_\nmodel: resnet20", "model=resnet20: .* in a file's defaults override /model: NAME"),
    ],
)
def test_a_mistake_in_a_file_of_the_users_own_is_told(own, text, message) -> None:
    from resnet.config.cli import compose_config

    (own / "mine" / "experiment" / "wrong.yaml").write_bytes(text)
    with pytest.raises(UserError, match=message) as told:
        compose_config(["experiment=wrong"], "mine")
    (job,) = jobs_of("--config-dir=mine", "-m", "seed=3", "experiment=wrong,mine")[:1]
    assert job.error == str(told.value) and "\n" not in job.error


def test_a_sweep_s_name_may_look_like_a_number(tmp_path, monkeypatch) -> None:
    from resnet.config.settings import refused_settings

    monkeypatch.chdir(tmp_path)
    for name in ("2026", "1e5", "true", "0"):
        request = read_request(read_arguments(["-m", f"sweep.name={name}", "seed=1,2"]))
        assert not list(refused_settings(request.config, True))


def test_a_flag_may_stand_anywhere_and_in_short() -> None:
    for arguments in (
        ["-m", "seed=1,2", "lr=1"],
        ["seed=1,2", "-m", "lr=1"],
        ["seed=1,2", "lr=1", "--multi"],
        ["--", "seed=1,2", "-m", "lr=1"],
    ):
        command = read_arguments(arguments)
        assert command.arguments == ["--multirun", "seed=1,2", "lr=1"] and read_request(command).is_sweep
    assert read_request(read_arguments(["seed=1,2", "hydra.mode=MULTIRUN"])).is_sweep
    assert not read_request(read_arguments(["sweep=seeds", "hydra.mode=RUN"])).is_sweep


FROM_WEIGHTS = ("finetune", "linear_probe")  # which parts learn, and how fast, is theirs with every optimizer


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_another_option_replaces_what_an_experiment_says_of_it(experiment) -> None:
    weights = ["model.weights=x"] if experiment in FROM_WEIGHTS else []
    chosen = ["optimizer=adamw", "scheduler=cosine", "augment=cutout", "model=preact110", *weights]
    config = compose(f"experiment={experiment}", *chosen)
    plain = compose(*chosen, f"data={config.data.name}")
    if weights:
        assert config.optimizer.pop("groups") and config.model.pop("weights_skip") == ["classifier"]
        del plain.optimizer["groups"], plain.model["weights_skip"]
    for group in ("lr", "decay_norm_and_bias", "optimizer", "scheduler", "augment", "model"):
        assert getattr(config, group) == getattr(plain, group), group


@pytest.mark.parametrize("sweep", ["degradation", "gradients_training", "cifar10_fast"])
def test_another_option_replaces_what_a_ready_sweep_says_of_it(sweep) -> None:
    config = compose(f"sweep={sweep}", "optimizer=rmsprop", "augment=none", "scheduler=step")
    plain = compose("optimizer=rmsprop", "augment=none", "scheduler=step")
    for group in ("lr", "optimizer", "scheduler", "augment"):
        assert getattr(config, group) == getattr(plain, group), group


def test_a_key_that_only_the_chosen_options_have(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of("-m", "optimizer=adam,adamw", "optimizer.betas=[0.8,0.99]")
    assert [job.config and job.config.optimizer["betas"] for job in jobs] == [[0.8, 0.99]] * 2
    wrong = jobs_of("-m", "optimizer=adam,sgd", "optimizer.betas=[0.8,0.99]")
    assert [bool(job.error) for job in wrong] == [False, True] and "belongs to optimizer=adam, optimizer=adamw" in wrong[1].error


def test_a_list_in_a_file_without_its_package_is_told_with_its_key(tmp_path, monkeypatch) -> None:
    (tmp_path / "conf" / "augment").mkdir(parents=True)
    (tmp_path / "conf" / "augment" / "mine.yaml").write_text("operations: [flip]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^augment: a list is needed, not keys \(operations\); a file of this group begins with"):
        compose_config(["augment=mine"], "conf")


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        (["experiment=article,mnist_fast", "augment=none", "optimizer.betas=[0.8,0.9]"], "experiment=mnist_fast"),
        (["scheduler=multistep", "scheduler.milestones=[5],5"], "scheduler.milestones=5: a list is needed"),
        (["scheduler=constant,step", "scheduler._target_=nope.Nope"], "scheduler._target_=nope.Nope: cannot be imported"),
        (["model.weights=null,nowhere.pt"], "model.weights=nowhere.pt: there is no file nowhere.pt"),
        (["fabric=cpu,gpu"], "no such device here"),
        (["seed=0,1", "+callbacks.mine._target_=wrong_parts.NoCallback"], "wrong_parts.NoCallback gives a NoCallback"),
        (["seed=0,1", "metrics=[wrong_parts.NoDirection]"], "direction=None; maximize or minimize is needed"),
    ],
)
def test_every_part_is_tried_before_the_first_job(tmp_path, monkeypatch, swept, message) -> None:
    (tmp_path / "wrong_parts.py").write_text(
        "class NoCallback: ...\nclass NoDirection:\n    def __call__(self, scores, labels): return 0.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    with pytest.raises(UserError, match=r"nothing was started: 2 jobs, mistakes in [12] of them") as refused:
        preflight(read_sweep(["-m", *QUICK, *swept, "sweep.name=s"]))
    sys.modules.pop("wrong_parts", None)
    assert message in str(refused.value) and [path.name for path in tmp_path.iterdir()] == ["wrong_parts.py"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_a_job_that_could_not_start_is_told_with_its_mistake(tmp_path, launcher) -> None:
    grid = ("-m", *QUICK, "augment.0.size=null,90", "lr=0.1,-1", "sweep.preflight=false", "sweep.name=s", f"hydra/launcher={launcher}")
    output = finish(start(tmp_path, *grid), 1)
    told = [line for line in output.splitlines() if line.startswith("could not start: ")]
    assert len(told) == 3 and "waiting" not in output and "the same command" not in output
    assert sum("lr=-1.0: out of range" in line for line in told) == 2 and sum("augment.0.size=90: larger" in line for line in told) == 1
    assert "multirun/s: 1 of 4 jobs finished" in output


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'a "b"', "münchen", "学习", "a(1)", "c=d", "x,y", "trailing/", "50%", "null", "1e3", "$x"]
)
def test_a_name_is_typed_so_that_it_comes_back(name) -> None:
    (typed,) = shlex.split(as_typed("name", name))
    command = read_arguments([typed])
    assert read_request(command).config.name == name


@pytest.mark.slow
def test_names_with_spaces_quotes_and_accents(train, tmp_path) -> None:
    train(*QUICK, "max_steps=1", "name=it's über (1)")
    assert summary(tmp_path / "outputs" / "it's über (1)")["name"] == "it's über (1)"
    output = train("-m", *QUICK, "max_steps=1", "seed=0,1", "sweep.name=it's über", "model.norm=none", "lr=1e30", status=1).stdout
    hint = shlex.split(output.partition("the same command, with ")[2].partition(", skips")[0])
    assert read_request(read_arguments(hint)).config.sweep.name == "it's über" and (tmp_path / "multirun" / "it's über").is_dir()


@pytest.mark.slow
def test_a_saved_config_runs_again(train, tmp_path) -> None:
    train(*QUICK, "max_steps=1", "optimizer=adam", "name=a")
    saved = ("--config-path", "outputs/a", "--config-name", "config")
    assert "this run is finished" in train(*saved).stdout
    train(*saved, "name=b", "lr=0.5")
    one, other = (yaml.safe_load((tmp_path / "outputs" / name / "config.yaml").read_text()) for name in "ab")
    assert other == {**one, "name": "b", "lr": 0.5, "optimizer": {**one["optimizer"], "lr": 0.5}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]
    assert "multirun/s: 2 of 2 jobs finished" in train(*saved, "-m", "seed=0,1", "sweep.name=s").stdout
    assert "set its keys, as optimizer.NAME=VALUE" in train(*saved, "optimizer=sgd", status=2).stderr


@pytest.mark.parametrize(
    "given", ["--config-path=a", "--config-path=a -cn=config.yaml", "--config-path=a/config.yaml", "--config-dir=a --config-name=config"]
)
def test_a_saved_config_by_other_words(tmp_path, monkeypatch, capsys, given) -> None:
    import train

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text(yaml.safe_dump(asdict(compose(*QUICK, "lr=0.4", "name=a"))))
    command = with_settings(read_arguments([*given.split(), "seed=3"]))
    hydras = read_arguments(command.arguments)
    assert (hydras.config_path, hydras.config_name) == (str(tmp_path / "a"), "config")
    request = read_request(command)
    assert request.config.hydra.output_subdir is None
    assert config_hash(load_config(without_hydra(request.config))) == config_hash(compose(*QUICK, "lr=0.4", "seed=3"))
    for text, message in (
        ("lr: [", "config.yaml: cannot be read (line 1"),
        ("- 1", "it holds no keys"),
        ("", "seed: config.yaml has no such"),
    ):
        (tmp_path / "a" / "config.yaml").write_text(text)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets, for itself
        monkeypatch.setattr("sys.argv", ["train.py", *given.split(), "seed=3"])
        with pytest.raises(SystemExit):
            train.command_line(train.main, train.sweeping)
        assert message in capsys.readouterr().err


def test_describe_takes_the_users_own_folder(own) -> None:
    from resnet.config.cli import compose_config

    assert config_hash(compose_config(["experiment=mine"], "mine")) == config_hash(compose(*QUICK, "lr=0.05"))
