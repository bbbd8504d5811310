"""The one entry point: `python train.py [key=value ...]` trains, `-m` sweeps, `--help` explains."""

from resnet.interrupt import end_at_once

if __name__ in ("__main__", "__mp_main__"):  # the second in a worker of a parallel sweep
    end_at_once(" before training began; the same command starts it")  # before imports that take seconds

import hydra
from omegaconf import DictConfig

from resnet.config.cli import command_line, job
from resnet.sweeps import sweeping
from resnet.sweeps.worker import own_output


@hydra.main(config_path="conf", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    with own_output(), job(cfg) as asked:
        config, directory, overrides, in_sweep = asked()
        from resnet.run import run  # torch takes seconds to import: mistakes and --help need none of it

        return run(config, directory, overrides, in_sweep)
    return None


if __name__ == "__main__":
    command_line(main, sweeping)
