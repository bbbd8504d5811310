"""One damaged or strange thing is one line, and stops nothing else: run directories, data files, and what is shown of them."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, call, compose, saved_config
from PIL import Image

from resnet import __main__ as commands
from resnet.analysis import show
from resnet.analysis.comparison import as_data, compare_runs
from resnet.analysis.confusion import write_confusion
from resnet.analysis.drawing import draw
from resnet.analysis.evaluate import evaluate
from resnet.analysis.export import check_writable
from resnet.analysis.filtering import filter_runs
from resnet.analysis.naming import is_ignored
from resnet.analysis.runs import look_for_runs
from resnet.analysis.saved import open_run
from resnet.build_model import build_model
from resnet.build_weights import load_weights
from resnet.config import UserError
from resnet.data import DataError
from resnet.data.arrays import arrays
from resnet.data.folder import folder
from resnet.data.form import Form
from resnet.data.listing import LeftOut, list_folder, pictures_in
from resnet.data.pictures import read_image
from resnet.data.sources import digits, mnist_family
from resnet.data.to_evaluate import images_to_evaluate
from resnet.models.weights import WeightsError, read_weights
from resnet.plain import for_latex, for_markdown, for_spreadsheet, plain
from resnet.record.directory import DirectoryError, RunDirectory
from resnet.record.hints import kept_overrides
from resnet.record.rows import RowSum, as_numbers, read_rows
from resnet.sweeps.closing import close
from resnet.sweeps.grid import read_sweep
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError

SETTINGS = ("data=arrays", "data.path=my data.npz", "model.layers=[1]", "scheduler=constant", "data.val_size=100")


@pytest.fixture(autouse=True)
def _ends():
    """Who waits for a pipe waits for ever."""
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on digits in a file of one's own, and what it said."""
    where = tmp_path_factory.mktemp("damage")
    source = digits(0)
    parts = {"train": source.train, "test": source.test}
    images = {f"x_{name}": split.images[:, 0].numpy() for name, split in parts.items()}
    np.savez(where / "my data.npz", **images, **{f"y_{name}": split.labels.numpy() for name, split in parts.items()})
    done = call(where, ROOT / "train.py", *SETTINGS, "epochs=2", "name=a")
    return where / "outputs" / "a", done.stdout


@pytest.fixture
def runs(finished, tmp_path, monkeypatch):
    """A folder with a good run and one to damage."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished[0].parents[1] / "my data.npz", tmp_path)
    for name in ("good", "bad"):
        shutil.copytree(finished[0], tmp_path / "runs" / name)
    config = (tmp_path / "runs" / "good" / "config.yaml").read_text()
    (tmp_path / "runs" / "good" / "config.yaml").write_text(config.replace("seed: 0", "seed: 1", 1))
    return tmp_path / "runs"


def with_(run, **changes) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, **changes}))


SUMMARIES = {
    "cut short": (b'{\n  "status": "finished",\n  "error": nu', "cut short or no JSON from line 3"),
    "empty": (b"", "cut short or no JSON"),
    "not UTF-8": (b'{"status": "\xe9"}', "byte 12 is no UTF-8"),
    "a list": (b"[]", "it holds no keys and values"),
    "nothing": (b"null", "it holds nothing"),
    "deep lists": (b"[" * 100_000, "nested too deeply"),
    "deep keys": (b'{"a":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
    "large": (b" " * 5_000_000, "more than 4,194,304 bytes"),
    "digits": (b'{"status": "running", "parameters": ' + b"9" * 5000 + b"}", "thousands of digits"),
    "a status of its own": (b'{"status": "done"}', "status: running, finished, failed or interrupted is needed"),
    "text for a number": (b'{"status": "failed", "seconds": "long"}', "seconds: a finite number is needed"),
    "truth for a number": (b'{"status": "finished", "test": {"accuracy": true, "loss": 1}}', "test.accuracy: a number is needed"),
    "text for a list": (b'{"status": "failed", "overrides": "lr=1"}', "overrides: a list is needed"),
    "a number in a list of texts": (b'{"status": "failed", "overrides": ["lr=1", 2]}', "overrides[1]: text is needed"),
    "no result": (b'{"status": "finished", "test": null}', "it has no test.accuracy"),
    "half a best": (b'{"status": "failed", "best": {"step": 1}}', "it has no best.val/accuracy"),
    "no threads": (b'{"status": "failed", "sessions": [{"threads": 0}]}', "sessions[0].threads: a whole number from 1 is needed"),
    "a spread of zero": (b'{"status": "failed", "data": {"std": [0.0]}}', "data.std[0]: a finite number above 0 is needed"),
}


@pytest.mark.parametrize("how", SUMMARIES)
def test_a_damaged_summary_is_named_and_the_others_compared(runs, how) -> None:
    content, reason = SUMMARIES[how]
    (runs / "bad" / "summary.json").write_bytes(content)
    found = look_for_runs([runs])
    (line,) = found.unreadable
    assert [run.seed for run in found.runs] == [1] and "bad/summary.json: cannot be read" in line and reason in line and "\n" not in line
    assert compare_runs([runs / "bad", runs / "good"], "val/accuracy").left_out == [line]
    with pytest.raises(UserError, match=re.escape(reason)):
        open_run(runs / "bad")
    with pytest.raises(UserError, match="no run that can be read"):
        look_for_runs([runs / "bad"])


def laughing(text: str) -> str:
    """Nine lines that stand for a billion values."""
    steps = zip("abcdefgh", "bcdefghi", strict=True)
    return text + "a: &a [x,x]\n" + "".join(f"{now}: &{now} [{','.join([f'*{before}'] * 9)}]\n" for before, now in steps)


CONFIGS = {
    "cut in half": (lambda text: text[: len(text) // 2], "cut short"),
    "cut at a line": (lambda text: "".join(text.splitlines(True)[:60]), "cut short, or not written by train.py: it lacks"),
    "cut in the last line": (lambda text: text[:-2], "its last line has no end"),
    "empty": (lambda text: "", "it holds nothing"),
    "a list": (lambda text: "- 1\n", "it holds no keys and values"),
    "of another program": (lambda text: "_wandb: {}\n", "it is no config of a run"),
    "multiplies itself": (laughing, "anchors or aliases"),
    "deep": (lambda text: f"{text}x: {'[' * 100_000}{']' * 100_000}\n", "nested too deeply"),
    "deep lists in lines": (lambda text: f"{text}x:\n  {'- ' * 1000}1\n", "nested too deeply"),
    "an object": (lambda text: f"{text}x: !!python/object/apply:os.system [id]\n", "no plain YAML from line "),
    "a date": (lambda text: f"{text}x: 2020-01-01\n", "x has a value that no run has"),
    "a date that is none": (lambda text: f"{text}x: 2020-99-99\n", "no plain YAML"),
    "bytes": (lambda text: f"{text}x: !!binary aGk=\n", "x has a value that no run has"),
    "a number for a key": (lambda text: f"{text}1: 2\n", "its key 1 is no text"),
    "a seed of words": (lambda text: text.replace("seed: 0", "seed: one", 1), "seed=one is no whole number"),
    "a control character": (lambda text: text + "\0", "no plain YAML"),
}


@pytest.mark.parametrize("how", CONFIGS)
def test_a_damaged_config_is_named_and_the_others_compared(runs, how) -> None:
    change, reason = CONFIGS[how]
    path = runs / "bad" / "config.yaml"
    path.write_text(change(path.read_text()))
    found = look_for_runs([runs])
    (line,) = found.unreadable
    assert [run.seed for run in found.runs] == [1] and "bad/config.yaml: cannot be read" in line and reason in line and "\n" not in line
    with pytest.raises(UserError, match=r"config\.yaml|seed=one"):
        open_run(runs / "bad")


def test_a_config_that_was_cut_anywhere_is_not_taken_for_another(runs) -> None:
    """Either it is unreadable, or it lacks only what makes no other run."""

    def deciding():
        return {key: value for key, value in look_for_runs([runs / "bad"]).runs[0].config.items() if not is_ignored(key)}

    path = runs / "bad" / "config.yaml"
    text, whole = path.read_text(), deciding()
    taken, lengths = 0, [*range(0, len(text), 7), *(match.end() for match in re.finditer("\n", text))]
    for length in lengths:
        path.write_text(text[:length])
        try:
            assert deciding() | {"checkpoint": None} == whole | {"checkpoint": None}, text[:length][-60:]
            taken += 1
        except UserError as error:
            assert "cannot be read" in str(error)
    assert taken < len(lengths) / 10


def test_an_older_config_means_the_defaults_of_later_keys(runs) -> None:
    path = runs / "bad" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for group, key in (("fabric", "sync_batch_norm"), ("model", "weights"), ("sweep", "preflight")):
        del config[group][key]
    del config["checkpoint"], config["callbacks"]
    path.write_text(yaml.safe_dump(config))
    assert not look_for_runs([runs]).unreadable and len(compare_runs([runs], "val/accuracy").groups) == 1


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.csv"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "loop"])
def test_what_is_no_file_is_named_and_never_waited_for(runs, name, kind, monkeypatch) -> None:
    path = runs / "bad" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # its names are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else name)
    comparison = compare_runs([runs], "val/accuracy")
    told = comparison.left_out if name != "metrics.csv" else [run.rows_problem for run in comparison.runs if run.rows_problem]
    if (name, kind) != ("metrics.csv", "loop"):  # which is as if it was not there
        assert len(told) == 1 and f"bad/{name}: cannot be read" in told[0]
    if kind != "loop":
        with pytest.raises(UserError, match=r"no regular file|a folder, where a file belongs|leads out"):
            open_run(runs / "bad")


def test_pipes_in_the_place_of_weights(tmp_path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="no regular file"):
        checkpoint.load(tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="no regular file"):
        read_weights(tmp_path / "last.pt")
    name = "x" * 300
    with pytest.raises(UserError, match=f"model.weights={name}: {name} cannot be read .File name too long"):
        load_weights(build_model(compose(), 1, 10), compose(f"model.weights={name}"))


def as_nobody(action) -> str:
    """What an action gives or raises in a process without rights, which the working directory lets in."""
    Path.cwd().chmod(0o755)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            os.write(writer, repr(action()).encode())
        except BaseException as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return os.read(reader, 10_000).decode()


def test_folders_that_loop_or_cannot_be_looked_into(runs) -> None:
    (runs / "loop").symlink_to("..")
    (runs / "self").symlink_to("self")
    (runs / "other").mkdir()
    (runs / "other" / "config.yaml").write_text("theirs: 1\n")  # of another program, without a summary
    closed = runs / "closed"
    closed.mkdir(mode=0o700)
    closed.chmod(0o000)
    found = as_nobody(lambda: look_for_runs([Path("runs")]).unreadable)
    closed.chmod(0o700)
    assert "closed: cannot be read (Permission denied)" in found
    assert len(look_for_runs([runs]).runs) == 2 and not look_for_runs([runs]).unreadable


def test_a_run_whose_files_come_and_go_is_opened(runs, monkeypatch) -> None:
    """As one does that is being written."""
    files = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: [*files(path, pattern), path / ".last.pt.part"])
    open_run(runs / "good")


def test_a_config_is_written_without_aliases(tmp_path) -> None:
    directory, layers = RunDirectory(tmp_path), [1, 2]
    directory.begin(
        saved_config(model={"layers": layers}, augment=[{"_target_": "resnet.data.augment.Progressive", "sizes": layers}]), ["step"], 0
    )
    assert "*" not in (tmp_path / "config.yaml").read_text() and directory.config["augment"][0]["sizes"] == [1, 2]


def cells(text: str) -> list[str]:
    return text.split("\r\n")


TABLES = {
    "a row edited away": (lambda text: "\r\n".join(cells(text)[:1] + cells(text)[2:]), "rows, where the checkpoint knows"),
    "the first of two swapped": (
        lambda text: "\r\n".join([cells(text)[0], cells(text)[2], cells(text)[1], *cells(text)[3:]]),
        "changed since",
    ),
    "a value rounded": (lambda text: re.sub(r"(11,1\.0,\d\.\d\d)\d+", r"\1", text), "changed since"),
    "a value blanked": (lambda text: re.sub(r"11,1\.0,[^,]+", "11,1.0,", text), "changed since"),
    "a word for a value": (lambda text: re.sub(r"11,1\.0,[^,]+", "11,1.0,low", text), "line 2: train/loss=low is no number"),
    "a cell less": (lambda text: text.replace("11,1.0,", "11,", 1), "line 2 has 8 cells, where the header has 9"),
    "semicolons": (lambda text: text.replace(",", ";"), "no header with a column step"),
    "no step": (lambda text: text.replace("step", "steps", 1), "no header with a column step"),
    "empty": (lambda text: "", "no header with a column step"),
    "UTF-16": (lambda text: text.encode("utf-16"), "no header with a column step"),
}


@pytest.mark.parametrize("how", TABLES)
def test_the_checkpoint_knows_its_rows(runs, how) -> None:
    change, reason = TABLES[how]
    directory = RunDirectory(runs / "bad")
    known = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["rows"]
    path = directory / "metrics.csv"
    text = path.read_bytes().decode().replace("\r\n12,", "\r\n11,")
    assert known["count"] == text.count("\r\n") - 1
    changed = change(text.replace(cells(text)[1], re.sub(r"^\d+,[^,]+", "11,1.0", cells(text)[1]), 1))
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        directory.check_rows(known)
    assert "metrics.csv" in str(error.value) and "put the file back as it was, or start anew" in str(error.value)


def test_what_changes_no_value_and_what_comes_later_is_no_damage(runs) -> None:
    directory = RunDirectory(runs / "bad")
    known, path = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["rows"], directory / "metrics.csv"
    before = path.read_bytes()
    for content in (
        before,
        b"\xef\xbb\xbf" + before,  # Excel's mark
        before.replace(b"\r\n", b"\n"),
        before + b"\x00\x00\xff\n",  # a crash of the machine leaves anything
        before + b"99,9.0,0.1",
    ):
        path.write_bytes(content)
        directory.check_rows(known)
    rows = directory.begin(directory.config, ["step", "epoch", "grad_norm/stem"], 10**6)
    assert "grad_norm/stem" in rows
    directory.check_rows(known)
    directory.check_rows(None)  # of an older version
    total = RowSum()
    for row in read_rows(path):
        total.add(as_numbers(row))
    assert total.known == known


@pytest.mark.slow
def test_a_changed_table_is_not_gone_on_with(runs) -> None:
    table = runs / "bad" / "metrics.csv"
    table.write_text("\n".join(line for number, line in enumerate(table.read_text().splitlines()) if number != 1) + "\n")
    before = {path: path.read_bytes() for path in (runs / "bad").rglob("*") if path.is_file()}
    error = call(runs.parent, "-m", "resnet", "resume", "runs/bad", "epochs=3", status=2).stderr
    assert error.count("\n") == 1 and "rows, where the checkpoint knows" in error
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_sweep_with_a_damaged_run_goes_on_with_the_others(train, tmp_path) -> None:
    command = ("-m", "data=digits", "model.layers=[1]", "epochs=1", "sweep.name=s")
    train(*command, "seed=0,1")
    first, second = sorted((tmp_path / "multirun" / "s").glob("*/summary.json"))
    first.write_text(first.read_text()[:100])
    done = train(*command, "seed=0,1,2", status=1)
    assert "2 of 3 jobs finished" in done.stdout and first.read_text().count("\n") < 10
    assert f"unreadable: {first.parent.name}" in done.stdout and "cut short or no JSON" in done.stdout
    assert "put a good copy back, or move multirun/s/" in done.stderr and "Traceback" not in done.stdout + done.stderr
    assert "the same command" not in done.stdout  # would change nothing
    report = (tmp_path / "multirun" / "s" / "report.html").read_text()
    assert "cannot be read" in report and second.parent.name in report
    assert "cut short" in call(tmp_path, "-m", "resnet", "compare", "multirun/s").stdout


# evaluation


def test_a_picture_that_cannot_be_written_there_lies_here(runs, capsys) -> None:
    """As in a colleague's run, which one may only read."""
    saved = open_run(runs / "bad")
    (runs / "bad" / ".confusion_test.png.part").mkdir()  # nothing can be written under that name, by root neither
    report = {"run": "bad", **evaluate(saved, "test")}
    report |= write_confusion(report, saved.directory)
    assert report["picture"] == "bad_confusion_test.png" and Path("bad_confusion_test.png").exists()
    Path(".bad_confusion_test.png.part").mkdir()
    report |= {"picture": None, "no_picture": None} | write_confusion(report, saved.directory)
    show.evaluation(report)
    assert "confusion matrix: bad_confusion_test.png: cannot be written (Is a directory)" in capsys.readouterr().out


def test_a_run_that_may_only_be_read_is_read(runs) -> None:
    for path in [runs / "good", *(runs / "good").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with_(runs / "bad", status="running")
    assert as_nobody(lambda: RunDirectory("runs/good").summary["status"]) == "'finished'"
    assert as_nobody(lambda: RunDirectory("runs/bad").summary["status"]) == "'interrupted'"
    assert "--out FOLDER" in as_nobody(lambda: check_writable(Path("runs/good/export")))


@pytest.mark.parametrize("number", [1, 5])
def test_no_right_answer_and_a_single_image_are_reported(runs, number, capsys) -> None:
    saved = open_run(runs / "bad")
    images = digits(0).test
    np.savez("own.npz", x_test=images.images[:number, 0].numpy(), y_test=images.labels[:number].numpy())
    answers = np.array(evaluate(saved, "test", Path("own.npz"))["confusion"]).sum(0)
    never = int(answers.argmin())
    assert answers[never] == 0
    np.savez("own.npz", x_test=images.images[:number, 0].numpy(), y_test=np.full(number, never))
    report = evaluate(saved, "test", Path("own.npz"))
    assert report["accuracy"]["value"] == 0 and report["loss"]["value"] > 0
    assert (report["loss"]["low"] is None) is (number == 1) and (report["loss"]["low"] or 0) >= 0
    show.evaluation({**report, **write_confusion(report, saved.directory)})
    text = capsys.readouterr().out
    assert "nan" not in text and ("one image, no interval" in text) is (number == 1)


@pytest.mark.slow
def test_one_class_is_reported(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=np.zeros(40, int), x_test=images, y_test=np.zeros(40, int))
    call(tmp_path, ROOT / "train.py", "data=arrays", "data.path=one.npz", "model.layers=[1]", "epochs=1", "name=one", "data.val_size=0")
    assert "100.00 %" in call(tmp_path, "-m", "resnet", "evaluate", "outputs/one").stdout


WEIGHTS = {
    "no step": ({"progress": {"step": "abc"}}, "invalid literal for int"),
    "an endless step": ({"progress": {"step": float("inf")}}, "cannot convert float infinity"),
    "of another size": ({"model": {}}, 'Missing key(s) in state_dict: "stem.0.weight"'),
    "complex": ({"model": lambda value: value.to(torch.complex64)}, "stem.0.weight is no plain tensor of floating-point numbers"),
    "sparse": ({"model": lambda value: value.to_sparse() if value.dim() else value}, "stem.0.weight is no plain tensor"),
    "without values": ({"model": lambda value: value.to("meta")}, "stem.0.weight is no plain tensor"),
    "of a run on other data": ({"data_digest": "0" * 64}, "it was trained on other data: digest 00000000, not"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("how", WEIGHTS)
def test_weights_that_do_not_fit_are_named(runs, how) -> None:
    changes, reason = WEIGHTS[how]
    change_weights(runs / "bad", **changes)
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        evaluate(open_run(runs / "bad"), "test")
    assert "best.pt: does not fit the run's config (" in str(error.value) and "\n" not in str(error.value)


def change_weights(run, **changes) -> None:
    content = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    change = changes.get("model")
    if callable(change):
        changes["model"] = {name: change(value) for name, value in content["model"].items()}
    torch.save({**content, **changes}, run / "checkpoints" / "best.pt")


def test_weights_of_another_precision_answer_alike(runs) -> None:
    before = evaluate(open_run(runs / "bad"), "test")["loss"]["value"]
    change_weights(runs / "bad", model=lambda value: value.double() if value.is_floating_point() else value)
    assert evaluate(open_run(runs / "bad"), "test")["loss"]["value"] == before


@pytest.mark.parametrize("text", ["data.root={a", "lr=" + "[" * 2000, "lr=!!python/x", "lr=" + "9" * 5000], ids=range(4))
def test_values_that_are_none_are_named(runs, text) -> None:
    with pytest.raises(UserError, match=re.escape(f"{text}: cannot be read; write KEY=VALUE")):
        open_run(runs / "bad", [text])
    with pytest.raises(UserError, match=r"filter .* is no value"):
        filter_runs(look_for_runs([runs]).runs, text)


def test_weights_that_answer_no_numbers_are_no_result(runs) -> None:
    for name in ("best.pt", "last.pt"):
        content = torch.load(runs / "bad" / "checkpoints" / name, weights_only=True)
        next(iter(content["model"].values())).fill_(float("nan"))
        with (runs / "bad" / "checkpoints" / name).open("wb") as file:
            checkpoint.save(content, file)
    with pytest.raises(UserError, match="no finite numbers"):
        evaluate(open_run(runs / "bad"), "test")


# hints


def offered(text: str) -> list[list[str]]:
    lines = [line.removeprefix("try next: ").strip() for line in text.splitlines() if "python train.py" in line]
    return [shlex.split(line)[2:] for line in lines]


def test_hints_keep_the_data_and_the_overrides_and_can_be_pasted(finished) -> None:
    deeper, seeds = offered(finished[1])
    config = compose(*deeper)
    assert (config.data.name, config.data.path, config.data.val_size) == ("arrays", "my data.npz", 100)
    assert config.model["layers"] == [2] and config.epochs == 2 and config.lr == compose(*SETTINGS).lr / 2
    assert seeds[0] == "-m" and set(SETTINGS) < set(seeds) and seeds[-1] == "seed=range(3)"


STRANGE = [
    "optimizer._target_=os.system",
    "+optimizer.callback={_target_: os.system}",
    "hydra.run.dir=/etc",
    "hydra/launcher=mine",
    "name=../../up",
    "wandb.entity=theirs",
    "data.root=/their/data",
    "data.path=/their/data.npz",
    "model.weights=/their/model.pt",
    "wandb.notes=${oc.env:HOME}",
    "lr=${oc.env:SECRET}",
    "lr=1\x1b[31m",
    "lr=1\nrm -rf x",
    "data=../../theirs",
    "nonsense=1",
    "--config-dir=/their/conf",
]
OWN = ["lr=0.1", "model.layers=[2,2]", "experiment=he2015/resnet20", "optimizer=adam", "optimizer.betas=[0.8,0.9]", "~optimizer.momentum"]


def test_commands_carry_nothing_of_a_stranger(tmp_path) -> None:
    kept, left_out = kept_overrides([*STRANGE, *OWN, "lr=$(touch x)"], None, tmp_path)
    assert kept == [*OWN, "lr=$(touch x)"]  # which the shell is handed in quotes
    assert {"optimizer._target_", "data.path", "model.weights"} <= set(left_out.split(", ")) and plain(left_out) == left_out
    at_home = kept_overrides(["data.path=mine.npz"], str(tmp_path.resolve()), tmp_path)
    assert at_home == (["data.path=mine.npz"], "") and kept_overrides(["data.path=mine.npz"], "/else/where", tmp_path)[0] == []


def test_commands_that_settle_are_quoted_and_say_what_they_leave_out(tmp_path) -> None:
    for lr, values in (("0.1", (0.91, 0.93, 0.92)), ("0.2", (0.90, 0.93, 0.91))):
        for seed, value in enumerate(values):
            run = tmp_path / f"{lr}-{seed}"
            run.mkdir()
            (run / "config.yaml").write_text(yaml.safe_dump(saved_config(seed=seed, lr=float(lr), sweep={"name": "../up; rm x"})))
            summary = {"status": "finished", "test": {"accuracy": 0.9, "loss": 0.1}, "best": {"val/accuracy": value, "val/loss": 0.1}}
            (run / "summary.json").write_text(json.dumps({**summary, "overrides": [*STRANGE, f"lr={lr}", "model.init=$(touch x)"]}))
    told = as_data(compare_runs([tmp_path], "val/accuracy"))
    assert told["settle"] and any("the commands leave out" in line and "data.path" in line for line in told["cautions"])
    for command in told["settle"]:
        words = shlex.split(command)
        assert words[:3] == ["python", "train.py", "-m"] and "'model.init=$(touch x)'" in command
        assert not [word for word in words if word in STRANGE or "up" in word] and plain(command) == command


# what is written


def test_a_device_or_a_folder_is_never_replaced_by_a_file(runs) -> None:
    os.mkfifo("pipe")
    for place in ("pipe", "runs", ""):
        with pytest.raises(DirectoryError, match=r"cannot be written \(it is no regular file\)"):
            RunDirectory(Path(place).parent).write(Path(place).name, lambda file: file.write(b"page"))
    assert Path("pipe").is_fifo() and not list(Path().glob(".*.part"))
    with pytest.raises(DirectoryError, match=r"nowhere/page.html: cannot be written \(No such file or directory\)$"):
        RunDirectory("nowhere").write("page.html", lambda file: file.write(b"page"))


def test_what_cannot_be_drawn_stops_nothing_else(runs) -> None:
    (runs / "bad" / "metrics.csv").write_text("")
    (runs / "bad" / "report.html").unlink()
    made, problems = draw([Path("nowhere"), Path("runs/bad"), Path("runs/good")])
    assert made == ["runs/bad/report.html", "runs/good/curves.png", "runs/good/report.html"]
    assert len(problems) == 3 and problems[1].startswith("runs/bad/curves.png is not drawn: runs/bad/metrics.csv: cannot be read (")
    (runs / "bad" / "config.yaml").write_text("x")
    assert draw([Path("runs")]) == (["runs/report.html"], [])
    assert "bad/config.yaml: cannot be read" in (runs / "report.html").read_text()


def test_a_run_that_says_little_is_drawn(runs) -> None:
    (runs / "bad" / "metrics.csv").write_text("step,train/loss\n1,nan\n2,1e400\n")
    with_(runs / "bad", name=None, overrides=[])
    assert draw([Path("runs/bad")]) == (["runs/bad/curves.png", "runs/bad/report.html"], [])
    (runs / "bad" / "summary.json").unlink()
    assert draw([Path("runs/bad")]) == (["runs/bad/curves.png"], [])


@pytest.mark.parametrize("value", [True, 5, [1, "a"]])
@pytest.mark.parametrize("key", ["data.path", "model.weights"])
def test_a_path_that_is_no_text_is_compared_as_it_is(runs, key, value) -> None:
    path = runs / "bad" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config[key.split(".")[0]][key.split(".")[1]] = value
    path.write_text(yaml.safe_dump(config))
    assert len(compare_runs([runs], "val/accuracy").runs) == 2


# what is shown


def test_what_lies_in_a_searchs_folder_is_shown_as_text(runs, capsys) -> None:
    """As of a search whose folder a stranger sent."""
    for name, key in (("[b]", "[i]"), ("\x1b[2J", "lr")):
        shutil.copytree(runs / "good", Path("multirun/s") / name)
        with_(Path("multirun/s") / name, overrides=[f"{key}=1"], status="finished" if key == "[i]" else "failed")
    close(read_sweep(["-m", "hydra/sweeper=search", "lr=interval(0.1,1)", "sweep.name=s"]), {}, {}, 2)
    text = capsys.readouterr().out
    assert "[b]" in text and "[i]" in text and "failed: \\x1b[2J" in text and "\x1b" not in text


def test_brackets_in_a_key_are_no_markup(runs, capsys) -> None:
    path = runs / "bad" / "config.yaml"
    path.write_text(path.read_text() + '"[/x]": 1\n')
    show.comparison({**as_data(compare_runs([runs], "val/accuracy")), "format": "table", "page": None})
    assert "[/x]" in capsys.readouterr().out.splitlines()[1]


def test_control_characters_do_not_reach_the_terminal(runs, capsys, monkeypatch) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp"
    with_(runs / "bad", status="failed", error=f"ValueError: {evil}", commit={"sha": evil, "dirty": True})
    path = runs / "good" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "name": evil, "mine": evil}))
    (runs / "good").rename(runs / f"good{evil}")
    for arguments in (["compare", "runs"], ["evaluate", f"runs/no{evil}"], ["predict", "runs/bad", f"no{evil}.png"]):
        monkeypatch.setattr("sys.argv", ["resnet", *arguments])
        with suppress(SystemExit):
            commands.main()
        shown = capsys.readouterr()
        text = shown.out + shown.err
        assert "\\x1b[2J" in text and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


CELLS = [  # as it is, for a spreadsheet, in Markdown, in LaTeX
    ("0.5", "0.5", "0.5", "0.5"),
    ("-0.5", "-0.5", "-0.5", "-0.5"),
    ("+1.5e-3", "+1.5e-3", "+1.5e-3", "+1.5e-3"),
    ("=1+1", "'=1+1", "=1+1", "=1+1"),
    ("@SUM(A1)", "'@SUM(A1)", "@SUM(A1)", "@SUM(A1)"),
    ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0", r"-2+3+cmd\|' /C calc'!A0", r"-2+3+cmd\textbar{}' /C calc'!A0"),
    (" =1", "' =1", " =1", " =1"),
    ("\t=1", r"\t=1", r"\\t=1", r"\textbackslash{}t=1"),
    ("a\r\nb", r"a\r\nb", r"a\\r\\nb", r"a\textbackslash{}r\textbackslash{}nb"),
    ("\x1b[1m\u202e", r"\x1b[1m\u202e", r"\\x1b\[1m\\u202e", r"\textbackslash{}x1b[1m\textbackslash{}u202e"),
    ("[1] *b* _c_ `d`", "[1] *b* _c_ `d`", r"\[1\] \*b\* \_c\_ \`d\`", r"{[1] *b* \_c\_ `d`}"),
    (
        "<b>&amp; ~s~ $x$",
        "<b>&amp; ~s~ $x$",
        r"\<b\>\&amp; \~s\~ \$x\$",
        r"\textless{}b\textgreater{}\&amp; \textasciitilde{}s\textasciitilde{} \$x\$",
    ),
    (r"\input{/etc/x}^2%#", r"\input{/etc/x}^2%#", r"\\input{/etc/x}^2%#", r"\textbackslash{}input\{/etc/x\}\textasciicircum{}2\%\#"),
    ("*", "*", r"\*", "{*}"),
    ('"', '"', '"', r"{\char34}"),
]


@pytest.mark.parametrize(("text", "csv", "markdown", "latex"), CELLS)
def test_cells_are_made_harmless(text, csv, markdown, latex) -> None:
    assert (for_spreadsheet(text), for_markdown(text), for_latex(text)) == (csv, markdown, latex)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here; what the page copies is not run")
def test_the_page_copies_cells_by_the_same_rules() -> None:
    script = (ROOT / "resnet" / "analysis" / "parts" / "page.js").read_text()
    rules = script[script.index("// Copying") : script.index("async function copy(")]
    lines = [["", "", ""], *([text] * 3 for text, *_ in CELLS)]
    made = f"{rules}\nprocess.stdout.write(JSON.stringify(['CSV', 'Markdown', 'LaTeX'].map((name) => formats[name]({json.dumps(lines)}))))"
    done = subprocess.run(["node", "-e", made], capture_output=True, text=True, check=True)
    csv, markdown, latex = (text.split("\n") for text in json.loads(done.stdout))
    for row, (_, for_csv, for_md, for_tex) in enumerate(CELLS, 1):
        quoted = f'"{for_csv.replace(chr(34), chr(34) * 2)}"' if '"' in for_csv else for_csv
        assert csv[row] == ",".join([quoted] * 3)
        assert markdown[row + 1] == f"| {' | '.join([for_md] * 3)} |"
        assert latex[row + 3] == " & ".join([for_tex] * 3) + r" \\"


# data files


def npz(**changed) -> Path:
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 4
    np.savez("own.npz", **{"x_train": images, "y_train": labels, "x_test": images, "y_test": labels, **changed})
    return Path("own.npz")


@pytest.mark.parametrize(("label", "kind"), [(4294967295, np.uint32), (2**40, np.int64), (2**64 - 1, np.uint64), (-1, np.int64)])
def test_a_label_that_is_no_class_is_named(tmp_path, monkeypatch, label, kind) -> None:
    monkeypatch.chdir(tmp_path)
    labels = (np.arange(20) % 4).astype(kind)
    labels[3] = np.array(label, kind)
    with pytest.raises(DataError, match=f"y_train has label {label}, which names no class"):
        arrays(npz(y_train=labels))
    with pytest.raises(DataError, match=f"--images own.npz: y_test has label {label}"):
        images_to_evaluate(npz(y_test=labels), ["a", "b"], Form((8, 8), 1), "photos")


def claiming(shape: str, body: bytes = b"abc", file: str = "own.npz", kind=zipfile.ZIP_STORED) -> Path:
    """An archive whose x_train says that it has a shape."""
    path, header = npz(), f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_train.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Path(file)


def test_archives_that_claim_more_than_they_hold(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for shape, reason in (
        ("1000000000000,8,8", "claims to be of shape"),
        ("18446744073709551616,8,8", "claims to be of shape"),
        ("20,8,8," + " " * 50_000, "no header that NumPy can read safely"),
    ):
        with pytest.raises(DataError, match=reason):
            arrays(claiming(shape))
    monkeypatch.setattr("resnet.data.archive.BOMB", 2**20)
    with pytest.raises(DataError, match="zipped into"):
        arrays(claiming("31250,8,8", bytes(2_000_000), kind=zipfile.ZIP_DEFLATED))
    path = npz()
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"text", content.replace(b"NUMPY", b"NUMPI")):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="truncated, corrupt or not an"):
            arrays(path)
    with pytest.raises(DataError, match="y_train holds pickled Python objects, which could run code"):
        arrays(npz(y_train=np.array([{}] * 20, dtype=object)))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="no regular file"):
        arrays(path)


def png(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)).save(path)


def huge_png() -> bytes:
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_images_that_are_none(tmp_path) -> None:
    for name in "ab":
        png(tmp_path / name / "0.png")
    good = (tmp_path / "a" / "0.png").read_bytes()
    odd = tmp_path / "a" / "odd\n\x1b[31m.png"
    for content, reason in ((b"", "no kind of image that is known"), (good[:50], "truncated"), (huge_png(), "exceeds limit")):
        odd.write_bytes(content)
        with pytest.raises(DataError, match=reason) as error:
            folder(str(tmp_path), 8, 1, "crop", "stop", 1)
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
    odd.unlink()
    os.mkfifo(odd)
    with pytest.raises(DataError, match="no regular file"):
        read_image(odd, 1)
    odd.unlink()
    (tmp_path / "a" / "up").symlink_to("..")  # is not followed
    (tmp_path / "a" / "down").symlink_to(tmp_path / "a")
    assert len(list_folder(tmp_path).parts["train"]) == 2
    (tmp_path / "c\x1b[31m").mkdir()
    with pytest.raises(DataError, match="control characters in the name of a class"):
        list_folder(tmp_path)


def test_what_other_programs_hide_is_no_image_and_no_class(tmp_path) -> None:
    for name in (*(f"a/{number}.png" for number in range(4)), "b/0.png", ".ipynb_checkpoints/0.png", "a/.thumbnails/0.png"):
        png(tmp_path / name)
    (tmp_path / "a" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    source = folder(str(tmp_path), None, 1, "crop", "stop", 1)
    assert source.classes == ["a", "b"] and len(source.train) == 5
    assert len(images_to_evaluate(tmp_path, ["a", "b"], Form((8, 8), 1), "photos")) == 5


def test_a_strangers_class_leads_nowhere(tmp_path) -> None:
    png(tmp_path / "own" / "a" / "0.png")
    png(tmp_path / "else" / "1.png")
    split = images_to_evaluate(tmp_path / "own", ["a", "../else", str(tmp_path / "else")], Form((8, 8), 1), "photos")
    assert split.labels.tolist() == [0]
    with pytest.raises(DataError, match="it has none of the model's classes as folders"):
        images_to_evaluate(tmp_path / "own", ["../else"], Form((8, 8), 1), "photos")


def test_a_folder_of_images_that_cannot_be_read_is_no_smaller_one(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.png", "a/closed/1.png", "b/0.png"):
        png(tmp_path / name)
    (tmp_path / "a" / "closed").chmod(0o000)
    assert "closed: cannot be read (Permission denied)" in as_nobody(lambda: pictures_in(Path("a"), LeftOut(Path("a"))))
    (tmp_path / "a" / "closed").chmod(0o700)


def test_idx_files_whose_headers_lie(tmp_path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = b"\0\0\x08\x03" + struct.pack(">III", 5, 28, 28) + bytes(5 * 784), b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes(5)

    def read(images=images, labels=labels):
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
        return mnist_family("mnist", tmp_path, download=False)

    assert len(read().train) == 5
    for wrong in (
        {"images": b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**31, 4)},  # 2**64, which is 0 to a processor
        {"labels": labels[:-1] + b"\x63"},
        {"labels": b"\0\0\x08\x01" + struct.pack(">I", 4) + bytes(4)},
        {"images": b""},
    ):
        with pytest.raises(DataError, match="MNIST/raw") as error:
            read(**wrong)
        assert "\n" not in str(error.value)
