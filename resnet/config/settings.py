"""Refuses settings of Hydra that do not work with run directories or sweeps, by name and before a folder is made."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from resnet.config.checks import bad_name

SUBDIR = "${run_id:}"  # as in conf/train.yaml


def refused_settings(config: DictConfig, is_sweep: bool) -> Iterator[str]:
    """Yields one line per mistake."""
    hydra = config.hydra
    if no_groups := [key for key in ("launcher", "sweeper") if not OmegaConf.is_dict(hydra[key])]:
        yield from (f"hydra.{key}={hydra[key]}: it is a group; choose one of its options as hydra/{key}=OPTION" for key in no_groups)
        return
    if hydra.output_subdir is not None:
        yield f"hydra.output_subdir={hydra.output_subdir}: Hydra's copies would change at each start; a run's config.yaml has it all"
    if hydra.job.chdir:
        yield "hydra.job.chdir=true: data.root and other paths start where the command is given; leave it false"
    for kind in ("job_logging", "hydra_logging"):
        handlers = (hydra[kind] or {}).get("handlers") or {}
        if any("filename" in handler for handler in handlers.values()):
            chosen = hydra.runtime.choices.get(f"hydra/{kind}")
            yield f"hydra/{kind}={chosen}: it writes a log into the run, which has its own, train.log; take none or stdout"
    raw: dict[str, Any] = OmegaConf.to_container(hydra, resolve=False)  # type: ignore[assignment]
    for key in ("sweep", "run"):
        if not raw[key]["dir"]:
            yield f"hydra.{key}.dir={'null' if raw[key]['dir'] is None else ''}: a folder is needed"
        elif str(raw[key]["dir"]).startswith("~"):
            yield f"hydra.{key}.dir={raw[key]['dir']}: no shell has put your home in place of the ~; write the whole path"
    if raw["sweep"]["subdir"] != SUBDIR:
        yield f"hydra.sweep.subdir={raw['sweep']['subdir']}: a job's folder is the hash of its config; sweep.name=... chooses the sweep's"
    if is_sweep:
        name = config.sweep.name
        if OmegaConf.is_config(name):
            yield f"sweep.name={name}: text is needed"
        elif wrong := bad_name("sweep.name", name if name is None else str(name)):
            yield wrong
        jobs = hydra.launcher.get("n_jobs", 1)
        if type(jobs) is not int or jobs == 0:
            yield f"hydra.launcher.n_jobs={jobs}: a number of jobs at once is needed, or -1 for one a core"
