"""What a command says of itself: versions and help, to a reader that stops reading too, on each Python."""

import argparse
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, call

from resnet import __version__

MODULES = ("resnet", "experiments", "benchmarks")
COMMANDS = re.findall(
    r"^    (\w+) ", subprocess.run([sys.executable, "-m", "resnet", "-h"], cwd=ROOT, capture_output=True, text=True).stdout, re.MULTILINE
)


@pytest.mark.parametrize(
    "arguments",
    [
        *(("train.py", *flags) for flags in (["--help"], ["--hydra-help"], ["--cfg", "job"], ["--info", "all"], ["--version"])),
        *(("-m", module, "--help") for module in MODULES),
        ("-m", "resnet", "compare", "--help"),
        ("-m", "resnet", "--version"),
        ("-m", "experiments.blocks", "--help"),
    ],
)
def test_nobody_reads_to_the_end(arguments) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head -1` does, only earlier
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_help_is_text_that_fits_a_terminal(tmp_path) -> None:
    assert {"describe", "resume", "evaluate", "compare"} <= set(COMMANDS)
    for arguments in (*(("resnet", name) for name in COMMANDS), *((module,) for module in MODULES), ("experiments.blocks",)):
        text = call(tmp_path, "-m", *arguments, "--help", COLUMNS="80").stdout
        assert text.startswith(f"usage: python -m {' '.join(arguments)}") and "%%" not in text, text
        assert max(map(len, text.splitlines())) <= 80, text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "error: the following arguments are required: COMMAND; python -m resnet --help explains"),
        ("train data=digits", "error: COMMAND: invalid choice: 'train' (choose from "),
        ("evaluate", "error: the following arguments are required: RUN; python -m resnet evaluate --help explains"),
        ("describe --epochs 5", "error: unrecognized arguments: --epochs; python -m resnet --help explains"),
    ],
)
def test_a_mistake_in_a_command_is_one_line(monkeypatch, capsys, arguments, message) -> None:
    from resnet import __main__ as command

    monkeypatch.setattr("sys.argv", ["resnet", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        command.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith(message) and len(told.splitlines()) == 1, told


def test_version_names_what_a_report_of_a_fault_needs(tmp_path) -> None:
    from importlib.metadata import version

    told = call(tmp_path, "-m", "resnet", "--version").stdout
    assert told == call(tmp_path, ROOT / "train.py", "--version").stdout
    assert re.match(rf"resnet-lab {re.escape(__version__)}( \(commit \w+\))?, Python {sys.version.split()[0]}, torch ", told)
    assert f"torch {version('torch')}," in told and len(told.splitlines()) == 1


def test_pythons_3_14_check_of_help_passes(monkeypatch, tmp_path) -> None:
    """Of each argument, where it is added: its help must be text (Python 3.14). Hydra's own parser fails it."""
    from hydra._internal import utils

    import resnet.config.internals as ours

    plain = argparse.ArgumentParser.add_argument

    def add_argument(self, *names, **settings):
        action = plain(self, *names, **settings)
        if action.help and "%" in action.help:
            argparse.HelpFormatter("")._expand_help(action)
        return action

    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", add_argument)
    shown = {action.dest: str(action.help) for action in utils.get_args_parser()._actions}
    assert "Install or Uninstall shell completion" in shown["shell_completion"] and "Application's help" in shown["help"]
    monkeypatch.setattr(utils, "argparse", argparse)
    with pytest.raises(TypeError):
        utils.get_args_parser()
    assert ours.Parser.add_argument is not add_argument
