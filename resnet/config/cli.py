"""The layer between Hydra and a run: reads what `train.py` was asked for, and prints one line instead of a traceback for a mistake."""

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet.config import refused
from resnet.config.arguments import CommandLine, read_arguments, readable
from resnet.config.compose import Composer, Request, as_given, read_request, set_by_sweep, with_settings, with_targets, without_hydra
from resnet.config.environment import wandb_settings
from resnet.config.errors import RunBusy, RunFailed, RunInterrupted, UserError
from resnet.config.explain import explain
from resnet.config.hashing import config_hash
from resnet.config.launched import is_first_process, is_srun, is_torchrun, started_processes
from resnet.config.load import load_config
from resnet.config.schema import Config
from resnet.config.settings import refused_settings
from resnet.interrupt import undone_if_ended
from resnet.plain import plain
from resnet.streams import keep_going
from resnet.version import version

# What a job was asked for: its checked config, its directory, the overrides that differ from the defaults, and whether it belongs to a
# sweep.
Asked = tuple[Config, Path, list[str], bool]
Around = Callable[[Request], AbstractContextManager[list[str]]]  # context around a sweep; yields extra overrides
FAILED, MISTAKE, CTRL_C = 1, 2, 130  # exit statuses
GRACE = 10.0  # seconds the other processes wait, so that the first one can print an error that all of them met


def run_id(*, _root_: Any) -> str:
    """Names the folder of a job in its sweep; the grid does not affect the name. Never raises, because an error here would end the whole
    sweep.
    """
    values = OmegaConf.to_container(_root_, resolve=False)
    values.pop("hydra", None)  # type: ignore[union-attr, call-arg, arg-type]
    try:
        return config_hash(load_config(OmegaConf.create(values)))[:8]
    except UserError:
        return "invalid"


OmegaConf.register_new_resolver("run_id", run_id, replace=True)  # registered here because worker processes import this module, not train.py


def command_line(main: Callable[[], None], around: Around) -> None:
    """Runs a Hydra main, and enters `around` for a sweep. A mistake becomes one line and exit status 2."""
    keep_going()
    if "--version" in sys.argv[1:]:
        print(version())
        return
    no_folder = [] if is_first_process() else ["hydra.run.dir=."]  # only the first process makes the run directory
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them in its own words
    command = CommandLine()
    try:
        command = with_settings(read_arguments([*sys.argv[1:], *no_folder]))
        checked = nullcontext(_shown(command)) if command.only_shows else _checked(command, around)
        with undone_if_ended(_remove_made), checked as arguments:
            sys.argv[1:] = arguments  # Hydra reads them here
            main()
    except UserError as error:
        say(str(error))
        raise SystemExit(MISTAKE) from None
    except Exception as error:  # an error of Hydra while it composed; an error in a job ends with SystemExit instead
        if wants_traceback:
            raise
        say(_explained(error, command))
        raise SystemExit(MISTAKE) from None


def _shown(command: CommandLine) -> list[str]:
    return replace(command, overrides=tuple(with_targets(command.overrides, Composer(command)))).arguments


@contextmanager
def _checked(command: CommandLine, around: Around) -> Iterator[list[str]]:
    """Checks the command line before Hydra makes a folder. Yields the arguments to give to Hydra."""
    wandb_settings(command.overrides)
    request = read_request(command)
    if wrong := list(refused_settings(request.config, request.is_sweep)):
        raise UserError("\n".join(wrong))
    if not request.is_sweep:
        load_config(without_hydra(request.config))
        yield replace(command, overrides=request.overrides).arguments
        return
    _check_not_a_sweep()
    with around(request) as settings:
        yield replace(command, overrides=(*request.overrides, *settings)).arguments


@contextmanager
def job(cfg: DictConfig) -> Iterator[Callable[[], Asked]]:
    """Wraps a Hydra job. Yields a function that returns what the job was asked for. A mistake inside ends only this job."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    made = _made(hydra)
    try:
        yield partial(_asked, cfg, hydra, directory)
    except (UserError, RunFailed) as error:
        if isinstance(error, UserError) and not isinstance(error, RunBusy) and hydra.mode == RunMode.MULTIRUN:
            refused.note(directory, hydra.overrides.task, str(error))
        _remove_if_empty(made)
        say(str(error))
        _end(MISTAKE if isinstance(error, UserError) else FAILED, hydra, cfg.sweep.on_failure == "stop")
    except RunInterrupted as error:
        _remove_if_empty(made)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        _remove_if_empty(made)
        raise SystemExit(CTRL_C) from None
    except SystemExit:  # a signal, in a sweep
        _remove_if_empty(made)
        raise
    except Exception as error:  # a bug in this package: show the traceback
        if hydra.mode == RunMode.MULTIRUN:
            refused.note(directory, hydra.overrides.task, f"{type(error).__name__}: {error}")
        _remove_if_empty(made)
        traceback.print_exc()
        _end(FAILED, hydra, cfg.sweep.on_failure == "stop")


def _asked(cfg: DictConfig, hydra: HydraConf, directory: Path) -> Asked:
    given: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # an override may name a missing key
    for key, value in wandb_settings(given).items():
        OmegaConf.update(cfg, f"wandb.{key}", value, merge=False, force_add=True)
    config = load_config(cfg)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    if in_sweep:
        check_processes(config)
        config.wandb.group = config.wandb.group or config.sweep.name
    elsewhere = ("wandb", "name=", "sweep", "optimizer.lr=")  # optimizer.lr repeats lr
    overrides = [text for text in as_given(hydra.overrides.task) if not text.startswith(elsewhere)]
    keys = {text.lstrip("+~").partition("=")[0] for text in overrides}
    by_sweep = set_by_sweep(hydra.runtime.choices.get("sweep"), hydra.runtime.config_sources)
    overrides += [f"{key}={value}" for key, value in by_sweep.items() if key not in keys]
    return config, directory, overrides, in_sweep


def _check_not_a_sweep() -> None:
    """Raises UserError if torchrun or srun started several processes, since each would run the whole sweep. Jobs of
    hydra/launcher=submitit_slurm do not pass through here.
    """
    processes = math.prod(started_processes() or (1,))
    if processes > 1:
        raise UserError(f"a sweep under torchrun or srun: {_one_job(processes)}")


def check_processes(config: Config) -> None:
    """Raises UserError for a sweep job with several processes. Fabric's launcher starts the whole command again; under -m that would be the
    whole sweep.
    """
    devices, nodes = config.fabric.devices, config.fabric.num_nodes
    if (devices != 1 or nodes != 1) and not is_srun():
        raise UserError(f"fabric.devices={devices}: {_one_job(devices)}")


def _one_job(processes: int | str) -> str:
    return (
        f"in a sweep each job has one process; for several, one job at a time: torchrun --nproc-per-node {processes} train.py key=value ..."
    )


def _end(status: int, hydra: HydraConf, stops: bool) -> None:
    """Ends a job. In a sweep the other jobs go on unless `stops`: the closing table reports the failure, and a search sees that the result
    is missing.
    """
    if hydra.mode != RunMode.MULTIRUN or stops:
        raise SystemExit(status) from None


def say(message: str) -> None:
    """Prints a mistake or a failure on standard error; each line starts with `error: `."""
    if not is_first_process():  # the first process says the same; torchrun may end it too early once this one exits, so wait
        if is_torchrun():
            time.sleep(GRACE)
        return
    print("\n".join(f"error: {plain(line)}" for line in message.splitlines()), file=sys.stderr)


def _made(hydra: HydraConf) -> Path:
    """Returns the folder that Hydra makes for a job."""
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.runtime.output_dir)
    return Path.cwd() / hydra.run.dir  # as written, `..` included


def _remove_made() -> None:
    if HydraConfig.initialized():
        _remove_if_empty(_made(HydraConfig.get()))


def _remove_if_empty(directory: Path) -> None:
    """Removes the empty folders that Hydra made for a job that could not start."""
    try:
        here = Path.cwd()
    except OSError:  # the working directory no longer exists
        return
    inside = [folder for folder in directory.parents if folder.is_relative_to(here) and folder != here]
    for folder in (directory, *inside):
        if folder != here:
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()


def compose_config(overrides: Sequence[str], config_dir: str | None = None) -> Config:
    """Returns the checked config that train.py would have for these overrides. Raises UserError."""
    command = CommandLine(tuple(map(readable, overrides)), config_dir=config_dir)
    try:
        composer = Composer(command)
        config = composer.compose(with_targets(command.overrides, composer))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_explained(error, command)) from None
    return load_config(without_hydra(config))


def _explained(error: Exception, command: CommandLine) -> str:
    try:
        composer = Composer(command)
    except (UserError, HydraException):
        composer = Composer()
    return explain(error, composer, command.overrides)
