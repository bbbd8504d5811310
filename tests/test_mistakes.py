"""Each mistake gets one line, status 2, no traceback, and leaves nothing behind."""

import numpy as np
import pytest
from conftest import saved_config

from resnet.config import UserError, load_config
from resnet.config.cli import compose_config
from resnet.sweeps.grid import compose_jobs, read_sweep

CONFIG_ALONE = [
    ("modl.layers=[1]", "modl.layers: unknown key (did you mean model.layers?)"),
    ("layers=[1]", "did you mean model.layers?"),
    ("+foo=1", "foo: unknown key"),
    ("++model.wdth=3", "did you mean model.width?"),
    ("optimizer.momntum=1", "did you mean optimizer.momentum?"),
    ("modle=resnet20", "did you mean model?"),
    ("~optimizer.lrr", "did you mean optimizer.lr?"),
    ("model=resnt20", "model=resnt20: no such option (did you mean resnet20?); choose one of"),
    ("data=mnst", "did you mean mnist?"),
    ("experiment=he2015/resnet21", "he2015/resnet20"),
    ("scheduler=none", "choose one of constant, cosine, multistep, multistep_warmup, one_cycle, plateau, step"),
    ("model=5", "model=5: no such option; choose one of article"),
    ("optimizer=adam wandb=true", "wandb=true: no such option; choose one of disabled, offline, online"),
    ("model={layrs:[1]}", "model.layrs: unknown key (did you mean model.layers?)"),
    ("model.layers={a:1}", "a list is needed"),
    ("=", "=: it has no key"),
    ("'lr=0.1'", "its quotes are part of it in this shell"),
    ("lr='0.1'", "a number is needed, without quotes"),
    ("optimizer=sgd,adam", "several values; add -m"),
    ("model.layers=[3,3", "cannot be read"),
    ("foo", "cannot be read"),
    ("epochs=abc", "epochs=abc: a whole number, or null, is needed"),
    ("epochs=1.5", "a whole number"),
    ("epochs=", "a whole number"),
    ("epochs=-1", "epochs=-1: out of range; it must be at least 0"),
    ("max_steps=0", "at least 1"),
    ("epochs=99999999999999999999", "out of range; it must be below 2**63"),
    ("epochs=null", "one of the two must say when training ends"),
    ("batch_size=0", "at least 1"),
    ("accumulate=1000", "more parts than images in a batch"),
    ("lr=nan", "lr=nan: a finite number is needed"),
    ("lr=inf", "finite"),
    ("lr=0", "lr=0.0: out of range; it must be above 0"),
    ("lr=true", "a number is needed"),
    ("lr=${foo}", "foo"),
    ("optimizer.lr=3", "set lr=3 alone"),
    ("seed=-1", "at least 0"),
    ("ema=1", "below 1"),
    ("loss.smoothing=1", "at least 0 and below 1"),
    ("clip_grad_norm=0", "above 0"),
    ("compile=maybe", "true or false is needed"),
    ("model.block=basc", "no such choice (did you mean basic?); choose one of basic, bottleneck, preact_basic"),
    ("model.shortcut=1x1", "choose one of projection_1x1"),
    ("model.layers=3", "a list is needed"),
    ("model.layers=[a]", "model.layers[0]=a: a whole number is needed"),
    ("model.layers=[]", "at least one value is needed"),
    ("model.layers=[2,0]", "model.layers=[2,0]: out of range"),
    ("model.width=null", "a whole number is needed"),
    ("model.dropout=1", "below 1"),
    ("model.shortcut=none model.stochastic_depth=0.5", "a plain network"),
    ("data.std=0", "above 0"),
    ("data.mean=x", "a finite number is needed"),
    ("data.val_size=-1", "a number of images is needed, from 0, or a share between 0 and 1"),
    ("data=arrays", "data=arrays needs the path"),
    ("data.channels=2", "choose one of 1, 3"),
    ("augment.mixup=1", "augment is a list of operations"),
    ("augment=flip augment.0.p=2", "augment.0.p=2.0: out of range; it must be at least 0 and at most 1"),
    ("augment=flip augment.1.p=1", "augment has no operation at place 1 (they count from 0)"),
    ("+augment.7=flip", "augment has no operation at place 7"),
    ("augment=flip augment.0.p=0.5 modl.width=3", "modl.width: unknown key"),
    ("fabric.devices=x", "fabric.devices=x"),
    ("fabric.precision=8", "choose one of 32-true"),
    ("fabric.precision=bf16-true ema=0.9", "ema=0.9 fabric.precision=bf16-true: averages are of float32 weights"),
    ("name=", "a run needs a name"),
    (f"wandb.tags=[{'a' * 65}]", "tags of 1 to 64 characters"),
    ("name=../a", "a run needs a name"),
    ("checkpoint.every_steps=0", "at least 1"),
    ("callbacks=[activation_stats] compile=true", "hides its activations"),
    ("callbacks=[grad_nrm]", "did you mean grad_norm?"),
    ("~lr", "lr"),
]
WITH_DATA = [
    ("data=digits 'model.layers=[1,1,1,1,1]'", "images of 8 pixels are too small for 5 stages"),
    ("data=digits augment=mnist_fast augment.0.size=null 'augment.1.sizes=[3]'", "images of 3 pixels are too small for 3 stages"),
    ("data=digits augment.0.size=32", "augment.0.size=32: larger"),
    ("data=digits data.val_size=5000", "only 1438 training images"),
    ("data=digits early_stop=2 data.val_size=0", "there is no held-out split"),
    ("data=digits data.train_size=1400", "ask for fewer"),
    ("data=digits data.mean=[1,2]", "2 values, where the images have 1 channels"),
    ("data=digits fabric=gpu", "no such device here"),
    (
        "data=digits optimizer._target_=torch.optim.Nope",
        ") has no Nope",
    ),
    ("data=digits wandb=online", "wandb.mode=online: "),
    ("data=digits +optimizer.momntum=1", "SGD takes"),
    ("data=digits optimizer._target_=torch.optim.NAdam", "'~optimizer.momentum' '~optimizer.nesterov' '~optimizer.fused' leave them out"),
    ("data=digits optimizer.momentum=-1", "refuses its settings"),
    ("data=digits scheduler.warmup=1", "scheduler.warmup=1.0: out of range; it must be at least 0 and below 1"),
    ("data=digits optimizer=muon optimizer.momentum=1.5", "optimizer.momentum=1.5: out of range; it must be at least 0 and below 1"),
    ("data=digits model.weights=nowhere.pt", "there is no file nowhere.pt"),
    ("data=arrays data.path=nowhere.npz", "nowhere.npz: no such file"),
    ("data=folder data.path=nowhere", "nowhere: no such folder"),
    ("data.download=false", "data/MNIST/raw/train-images-idx3-ubyte: not found"),
]


WORDS = {  # of other programs, and ours
    "learning_rate": "lr",
    "trainer.max_epochs": "epochs",
    "num_epochs": "epochs",
    "batchsize": "batch_size",
    "dataset": "data",
    "arch": "model",
    "depth": "model.layers",
    "dropout": "model.dropout",
    "device": "fabric.accelerator",
    "gpus": "fabric.devices",
    "fp16": "fabric.precision",
    "weight_decay": "optimizer.weight_decay",
    "wd": "optimizer.weight_decay",
    "num_workers": "data.workers",
    "val_split": "data.val_size",
    "patience": "early_stop",
    "output_dir": "name",
    "scheduler.name": "scheduler=NAME",
    "LR": "lr",
    "data.batch_size": "batch_size",
    "hydra.run.dirr": "hydra.run.dir",
}
IN_OTHER_WORDS = [
    *((f"{word}=1", f"{word}: unknown key (did you mean {ours}?)") for word, ours in WORDS.items()),
    ("betas=[0.9,0.99]", "optimizer.betas belongs to optimizer=adam, optimizer=adamw"),
    ("scheduler.milestones=[5]", "scheduler.milestones belongs to scheduler=multistep"),
    ("resume=true", "python -m resnet resume RUN"),
    ("num_classes=10", "it follows from the data"),
    ("model.foo=1", "model.foo: unknown key; model has _target_, activation, anti_alias, attention, block"),
    ("checkpoint=x.pt", "it is a group of keys; set one of them: checkpoint.every_steps"),
    ("--lr=0.1", "--lr=0.1: no such flag; keys are written without dashes: lr=0.1"),
    ("--batch-size 32", "keys are written without dashes: batch_size=32"),
    ("--learning-rate=0.1", "(did you mean lr?)"),
    ("--config-dir", "--config-dir/-cd: expected one argument"),
    ("--run -m", "--run --multirun: one of the two"),
    ("optimizer=SGD", "(did you mean sgd?)"),
    ("data=cifar-10", "(did you mean cifar10?)"),
    ("scheduler=CosineAnnealingLR", "(did you mean cosine?)"),
    ("fabric=cuda", "(did you mean gpu?)"),
    ("model=resnet_19", "model=resnet_19: no such option (did you mean resnet18?)"),
    ("model=wrn28", "model=wrn28: no such option (did you mean wrn_28_10?)"),
    ("model=WideResNet-28-10", "no such option (did you mean wrn_28_10?)"),
    ("model=resnext", "no such option (did you mean resnext50_32x4d?)"),
    ("model.widths=[8,8,8]", "model.widths: unknown key (did you mean model.stage_widths?)"),
    ("model.aa_layer=blur", "model.aa_layer: unknown key (did you mean model.anti_alias?)"),
    ("resnet50", "did you mean model=resnet50?"),
    ("mnist", "mnist: did you mean data=mnist?"),
    ("train", "python train.py alone trains"),
    ("lr = 0.1", "lr: it has no value; write lr=VALUE, without spaces"),
    ("lr=0.1, 0.2", "several values have no space after the comma"),
    ("model.layers=[2, 2]", "quote what your shell would change"),
    ("\u2013m seed=1,2", "as web pages print it; type - instead"),
    ("\u2018lr=0.1\u2019", "as web pages print it; type ' instead"),
    ("seed=range(3)", "several values; add -m"),
    ("lr=${oc.env:NOWHERE}", "lr=${oc.env:NOWHERE}: the environment variable NOWHERE is not set"),
    ("name=${oc.env:NOWHERE}", "name=${oc.env:NOWHERE}: the environment variable NOWHERE is not set"),
    ("+lr=1", "+lr: it is there already; write it without the +"),
    ("+optimizer=adam", "write optimizer=OPTION once, without a +"),
    ("~optimizer", "it comes with the optimizer: choose optimizer=NAME"),
    ("optimizer=null", "optimizer=null: no such option; choose one of adam"),
    ("++optimizer=adam", "write optimizer=adam"),
    ("optimizer@other=adam", "write optimizer=OPTION"),
    ("~optimizer=adam", "~optimizer=adam: it is not chosen"),
    ("~model.weights", "~model.weights: it is null"),
    ("experiment=resnet20", "(did you mean he2015/resnet20?)"),
    ("model=ResNet-50", "model=ResNet-50: no such option (did you mean resnet50?)"),
    ("fabric.precision=fp16", "(did you mean 16-mixed?)"),
    ("help", "python train.py --help shows what there is"),
    ("hydra.launcher.n_jobs=2", "it belongs to hydra/launcher=parallel"),
    ("hydra.sweeper.n_trials=2", "it belongs to hydra/sweeper=search"),
    ("hydra/sweeper=search hydra.sweeper.sampler=random", "as hydra/sweeper/sampler=OPTION"),
    (
        "hydra/sweeper=search hydra/sweeper/sampler=bayes",
        "hydra/sweeper/sampler=bayes (in hydra/sweeper/optuna): no such option; choose one of cm",
    ),
    ("-m hydra.launcher=parallel seed=1,2", "choose one of its options as hydra/launcher=OPTION"),
    ("hydra/launcher=slurm hydra.launcher.gpus=2", "hydra.launcher.gpus: unknown key; hydra.launcher has _target_, account"),
    ("hydra.job.env_set.A=1", "write +hydra.job.env_set.A=VALUE"),
    ("hydra.callbacks={a:{}}", "write +hydra.callbacks=VALUE"),
]
REFUSED = [
    ("name=a\\b", "backslashes"),
    ("name=~/a", "a run needs a name"),
    (f"name={'a' * 256}", "too long for a folder"),
    ("-m sweep.name=../up seed=1,2", "sweep.name=../up: a sweep needs a name"),
    ("-m sweep.name= seed=1,2", "sweep.name=: a sweep needs a name"),
    ("-m sweep.name=null seed=1,2", "sweep.name=null: a sweep needs a name"),
    ("sweep=seeds sweep.name=/tmp/a", "sweep.name=/tmp/a: a sweep needs a name"),
    ("-m sweep=seeds,optimizer", "a ready sweep is one choice"),
    ("-m choose_by=val/loss,val/accuracy", "one value for the whole sweep"),
    ("-m hydra/launcher=basic,parallel seed=1", "one value for the whole sweep"),
    ("-m sweep.name=[a] seed=1,2", "sweep.name=['a']: text is needed"),
    ("-m seed=range(0)", "seed=range(0): there is no value in it"),
    ("-m lr=interval(0.1,1)", "hydra/sweeper=search"),
    ("-m hydra.sweeper.params={seed:1}", "write KEY=VALUE,VALUE"),
    ("hydra.run.dir=~/a", "write the whole path"),
    ("hydra.searchpath=[s3://a]", "hydra.searchpath: No config source registered for schema s3"),
    ("-m optimizer=glob(x*)", "no option is called so; optimizer has adam"),
    ("hydra.output_subdir=.hydra", "hydra.output_subdir=.hydra: "),
    ("hydra/job_logging=default", "hydra/job_logging=default: it writes a log"),
    ("-m hydra.sweep.subdir=x seed=1,2", "hydra.sweep.subdir=x: "),
    ("hydra.job.chdir=true", "hydra.job.chdir=true: "),
    ("hydra.run.dir=", "hydra.run.dir=: a folder is needed"),
    ("hydra.mode=foo", "expected one of [RUN, MULTIRUN]"),
    ("-m hydra/launcher=parallel hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: "),
    ("--config-dir nowhere", "there is no such folder of configs"),
    ("hydra.searchpath=[nowhere]", "hydra.searchpath=nowhere: there is no such folder of configs"),
    ("--config-name nope", "there is no nope.yaml"),
]


def is_one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1 and text.startswith("error: ")


def check(train, tmp_path, arguments, message) -> None:
    before = sorted(tmp_path.iterdir())
    done = train(*arguments.replace("'", "").split(" "), status=2)
    assert message in done.stderr
    assert is_one_line(done.stderr), done.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("arguments", "message"), [*CONFIG_ALONE, *IN_OTHER_WORDS, *REFUSED])
def test_in_the_config(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    """As `python train.py` does, in this process."""
    import train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets, for itself
    monkeypatch.setattr("sys.argv", ["train.py", *arguments.split(" ")])
    with pytest.raises(SystemExit) as ended:
        train.command_line(train.main, train.sweeping)
    told = capsys.readouterr()
    assert ended.value.code == 2 and message in told.err and not told.out
    assert is_one_line(told.err), told.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "message"), [CONFIG_ALONE[0], CONFIG_ALONE[-1], ("--lr=0.1", "without dashes: lr=0.1"), REFUSED[3]])
def test_by_the_command(train, tmp_path, arguments, message) -> None:
    check(train, tmp_path, arguments, message)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), WITH_DATA)
def test_in_what_the_config_meets(train, tmp_path, arguments, message) -> None:
    check(train, tmp_path, arguments, message)


def test_corrupt_files_are_named(train, tmp_path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    check(train, tmp_path, "data=arrays data.path=bad.npz", "bad.npz: truncated, corrupt or not an .npz")
    np.savez(tmp_path / "part.npz", x_train=np.zeros((4, 8, 8), np.uint8))
    check(train, tmp_path, "data=arrays data.path=part.npz", "y_train is missing")
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, items in (("train", 60000), ("t10k", 10000)):
        for kind, magic in (("images-idx3", b"\x00\x00\x08\x03"), ("labels-idx1", b"\x00\x00\x08\x01")):
            (raw / f"{part}-{kind}-ubyte").write_bytes(magic + items.to_bytes(4, "big"))
    check(train, tmp_path, "data=mnist", "train-images-idx3-ubyte: truncated or corrupt")


def test_no_network_and_no_files(train, tmp_path) -> None:
    done = train("data=mnist", status=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: data/MNIST/raw/train-images-idx3-ubyte: not found") and "data=digits" in last
    assert not any(tmp_path.iterdir())


def test_unwritable_directory(train, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    check(train, tmp_path, "data=digits hydra.run.dir=file/run", "cannot be written")


def test_help_and_cfg_import_no_torch(train) -> None:
    import subprocess
    import sys

    from conftest import ROOT

    for flag in (["--help"], ["--cfg", "job"], ["epochs=abc"]):
        script = f"import sys; sys.argv = ['train.py', *{flag!r}]; import runpy\ntry: runpy.run_path('train.py', run_name='__main__')\n"
        script += "except SystemExit: pass\nfinally: print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip().endswith("False"), done.stdout + done.stderr
    text = train("--help").stdout
    assert text.count("python train.py") >= 5 and "he2015" in text and "preact_basic" not in text.split("Groups")[0]


@pytest.mark.parametrize("value", [5, None, [1], "x"])
@pytest.mark.parametrize("key", ["model", "loss", "data", "optimizer", "scheduler", "augment", "callbacks", "metrics", "fabric", "sweep"])
def test_a_value_in_the_place_of_keys_is_told_with_its_key(key, value) -> None:
    with pytest.raises(UserError) as error:
        load_config({**saved_config(), key: value})
    told = str(error.value)
    assert told.startswith(f"{key}={'null' if value is None else value}: " if value != [1] else key) and "\n" not in told
    assert "needed" in told or "group of keys" in told


@pytest.mark.parametrize("group", ["model", "data", "loss", "optimizer", "scheduler", "fabric", "wandb"])
def test_several_options_of_a_group_are_refused_in_runs_and_jobs(group, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{group} has one option; write {group}=OPTION"):
        compose_config([f"{group}=[a,b]"])
    jobs = list(compose_jobs(read_sweep(["-m", f"{group}=[a,b],x", "sweep.name=s"])))
    assert f"{group} has one option" in jobs[0].error and "no such option" in jobs[1].error
