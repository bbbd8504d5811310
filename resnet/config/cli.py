"""Between Hydra and a run: what `train.py` was asked for, and one line instead of a traceback where that was a mistake."""

import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

import resnet.config.parser  # noqa: F401 - before Hydra makes one
from resnet.config.environment import wandb_settings
from resnet.config.errors import RunFailed, RunInterrupted, UserError
from resnet.config.hashing import config_hash, flatten
from resnet.config.launched import is_first_process, is_srun, is_torchrun, started_processes
from resnet.config.load import all_keys, load_config
from resnet.config.schema import Config
from resnet.config.suggest import nearest
from resnet.plain import plain
from resnet.streams import keep_going
from resnet.training.interrupt import undoing
from resnet.version import version

CONF = Path(__file__).resolve().parents[2] / "conf"
FAILED, MISTAKE, CTRL_C = 1, 2, 130  # exit statuses
EXTRAS = {"hydra/sweeper/optuna": "search", "hydra/launcher/submitit_slurm": "slurm"}  # of setup.cfg, by what needs them
GRACE = 10.0  # seconds in which the first process of several comes to say what all of them met


def run_id(*, _root_: Any) -> str:
    """The folder of a job in its sweep, whatever grid it stands in; never raises, which would end the whole sweep."""
    values = OmegaConf.to_container(_root_, resolve=False)
    values.pop("hydra", None)  # type: ignore[union-attr, call-arg, arg-type]
    try:
        return config_hash(load_config(OmegaConf.create(values)))[:8]
    except UserError:
        return "invalid"


OmegaConf.register_new_resolver("run_id", run_id, replace=True)  # here: a worker process imports this, and no train.py


def command_line(main: Callable[[], None], around: Callable[[], AbstractContextManager[None]]) -> None:
    """Runs a Hydra main inside `around`; a mistake becomes one line and exit status 2."""
    keep_going()
    if "--version" in sys.argv[1:]:
        print(version())
        return
    if not is_first_process():  # the first one's directory is the run's: no other makes one
        sys.argv.append("hydra.run.dir=.")
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on, instead of printing them in its own words
    try:
        _check_not_a_sweep()
        wandb_settings(sys.argv[1:])
        with undoing(_remove_made), around():
            main()
    except UserError as error:
        say(str(error))
        raise SystemExit(MISTAKE) from None
    except Exception as error:  # of Hydra, while it composed: a job ends with SystemExit
        if wants_traceback:
            raise
        say(explain(error, sys.argv[1:]))
        raise SystemExit(MISTAKE) from None


@contextmanager
def job(cfg: DictConfig) -> Iterator[tuple[Config, Path, list[str], bool]]:
    """The checked config of a Hydra job, its directory, the overrides that it differs from the defaults by, whether it is of a sweep."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    made = _made(hydra)
    try:
        given: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # one may refer to what does not exist
        for key, value in wandb_settings(given).items():
            OmegaConf.update(cfg, f"wandb.{key}", value, merge=False, force_add=True)
        config = load_config(cfg)
        in_sweep = hydra.mode == RunMode.MULTIRUN
        if in_sweep:
            check_processes(config)
            config.wandb.group = config.wandb.group or config.sweep.name
        overrides = [text for text in hydra.overrides.task if not text.startswith(("wandb", "name=", "sweep"))]
        keys = {text.lstrip("+~").partition("=")[0] for text in overrides}
        overrides += [f"{key}={value}" for key, value in set_by_sweep(hydra.runtime.choices["sweep"]).items() if key not in keys]
        yield config, directory, overrides, in_sweep
    except (UserError, RunFailed) as error:
        _remove_if_empty(made)
        say(str(error))
        _end(MISTAKE if isinstance(error, UserError) else FAILED, hydra, cfg.sweep.on_failure == "stop")
    except RunInterrupted as error:
        _remove_if_empty(made)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        _remove_if_empty(made)
        raise SystemExit(CTRL_C) from None
    except SystemExit:  # of a signal, in a sweep
        _remove_if_empty(made)
        raise
    except Exception:  # ours to mend: the traceback is wanted
        _remove_if_empty(made)
        traceback.print_exc()
        _end(FAILED, hydra, cfg.sweep.on_failure == "stop")


def set_by_sweep(sweep: str | None) -> dict[str, str]:
    """What an option of conf/sweep sets besides its grid, as overrides, which make the same run without it."""
    if sweep is None:
        return {}
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "sweep" / f"{sweep}.yaml"))  # type: ignore[assignment]
    found: dict[str, str] = {}
    for entry in values.pop("defaults", []):
        if isinstance(entry, str):
            found |= set_by_sweep(entry)
        else:
            found |= {key.removeprefix("override /"): option for key, option in entry.items() if "hydra" not in key}
    kept = {key: value for key, value in values.items() if key not in ("hydra", "sweep")}
    return found | {key: "null" if value is None else str(value).replace(" ", "") for key, value in flatten(kept).items()}


def _check_not_a_sweep() -> None:
    """Each process that torchrun or srun started would run the whole sweep. A job of hydra/launcher=submitit_slurm is no command line."""
    processes = math.prod(started_processes() or (1,))
    if processes > 1 and {"-m", "--multirun", "sweep"} & {text.split("=")[0] for text in sys.argv}:
        raise UserError(f"a sweep under torchrun or srun: {_one_job(processes)}")


def check_processes(config: Config) -> None:
    """Fabric's launcher starts the whole command again: under -m that would be the whole sweep."""
    devices, nodes = config.fabric.devices, config.fabric.num_nodes
    if (devices != 1 or nodes != 1) and not is_srun():
        raise UserError(f"fabric.devices={devices}: {_one_job(devices)}")


def _one_job(processes: int | str) -> str:
    return (
        f"in a sweep each job has one process; for several, one job at a time: torchrun --nproc-per-node {processes} train.py key=value ..."
    )


def _end(status: int, hydra: HydraConf, stops: bool) -> None:
    """Of a job. In a sweep the others go on and the closing table tells of it; a search is told by the result that is missing."""
    if hydra.mode != RunMode.MULTIRUN or stops:
        raise SystemExit(status) from None


def say(message: str) -> None:
    """A mistake or a failure, on standard error: each line as one of `error: `."""
    if not is_first_process():  # which says the same, unless torchrun, seeing this one end, ends it before it could
        if is_torchrun():
            time.sleep(GRACE)
        return
    print("\n".join(f"error: {plain(line)}" for line in message.splitlines()), file=sys.stderr)


def _made(hydra: HydraConf) -> Path:
    """The folder that Hydra makes for a job."""
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.runtime.output_dir)
    return Path.cwd() / hydra.run.dir  # as it was written, with its `..`


def _remove_made() -> None:
    if HydraConfig.initialized():
        _remove_if_empty(_made(HydraConfig.get()))


def _remove_if_empty(directory: Path) -> None:
    """Takes back the folders that Hydra made for a job that could not start."""
    try:
        here = Path.cwd()
    except OSError:  # which is gone itself
        return
    inside = [folder for folder in directory.parents if folder.is_relative_to(here) and folder != here]
    for folder in (directory, *inside):
        if folder != here:
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()


def compose_config(overrides: list[str]) -> Config:
    """The checked config that train.py would have for these overrides. Raises UserError."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return load_config(compose("train", overrides))
    except HydraException as error:
        raise UserError(explain(error, overrides)) from None


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """One line for what Hydra found wrong."""
    first_line = str(error).split("\n")[0]
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return f"{error.filename}: cannot be written ({error.strerror}); make it writable, or choose another folder with hydra.run.dir=..."
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; write key=value, and quote what your shell would change, like 'model.layers=[3,3,3]'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        if extra := EXTRAS.get(error.missing_cfg_file):
            return f"{error.missing_cfg_file}: it is not installed; pip install -e '.[{extra}]'"
        group, option = re.fullmatch("(hydra/[^/]*|[^/]*)/?(.*)", error.missing_cfg_file).groups()  # type: ignore[union-attr]
        choices = _options(group)
        return f"{group}={option}: no such option{nearest(option, choices)}; choose one of {', '.join(choices)}"
    if match := re.match(r"Ambiguous value for argument '(.*)'", first_line):
        return f"{match[1]}: several values; add -m to run them all as a sweep, or write key=[a,b] for a list"
    if isinstance(error, ConfigCompositionException) and (
        match := re.match(r"Could not (?:override|append|delete)[^']*'(.*?)'", first_line)
    ):
        key = match[1].split("=")[0].strip("+~")
        return f"{key}: unknown key{nearest(key, _known_keys(arguments))}"
    if isinstance(error, ConfigCompositionException) and (match := re.match(r"Error merging override (.*)", first_line)):
        return f"{match[1]}: {str(error.__cause__).splitlines()[0]}"
    if isinstance(error, TypeError | ValueError):
        return f"{first_line}; a group takes one of its options, as in model=resnet20 (--help lists them)"
    if isinstance(error, ConfigAttributeError):
        return f"{error.full_key}: unknown key{nearest(str(error.full_key), all_keys())}"
    return f"{key}: {first_line}" if (key := getattr(error, "full_key", None)) else first_line


def _options(group: str) -> list[str]:
    folder = CONF / group
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def _known_keys(arguments: Sequence[str]) -> set[str]:
    """The keys of the schema and of the groups that were chosen."""
    overrides = [text for text in arguments if "=" in text and not text.startswith("-")]
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    chosen = [str(item.input_line) for item in OverridesParser.create().parse_overrides(overrides) if item.key_or_group in groups]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = compose("train", chosen)
        except HydraException:
            composed = compose("train")
    return {*groups, *all_keys(), *flatten(OmegaConf.to_container(composed, resolve=False))}  # type: ignore[arg-type]
