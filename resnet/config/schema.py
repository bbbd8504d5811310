"""The types, ranges and choices of a config. Units and defaults are in conf/.

A key that is added after run directories exist also gets its default here, because old configs lack the key and mean that default.
"""

from dataclasses import MISSING, dataclass, field
from typing import Any

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
WANDB_MODES = ("offline", "online", "disabled")
FITS = ("crop", "pad", "squash")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")


def limited(default: Any = MISSING, **limits: Any) -> Any:
    """Returns a field with limits for its value, or for each item of a list: at_least, above, at_most, below, choices."""
    return field(default=default, metadata=limits)


def one_of(*choices: Any) -> Any:
    return limited(choices=choices)


@dataclass(kw_only=True)
class DataConfig:
    source: dict[str, Any]  # _target_ of a resnet.data.Source and its settings; in config.yaml they stand beside the other keys
    name: str  # name of the data set in tables and headers
    root: str
    download: bool
    path: str | None
    mean: Any  # a number, or one per channel
    std: Any
    val_size: Any  # a number of images, or a share
    train_size: int | None = limited(at_least=1)
    split_seed: int = limited(at_least=0)
    balance: bool = False
    only: list[str] | None = None
    folds: int | None = limited(default=None, at_least=2)
    fold: int = limited(default=0, at_least=0)
    image_size: Any  # a number, or height and width
    channels: int = one_of(1, 3)
    fit: str = limited(default="squash", choices=FITS)
    on_bad_file: str = limited(default="stop", choices=("stop", "skip"))
    cache_gb: float = limited(default=20.0, at_least=0)
    workers: int | None = limited(at_least=0)
    shift: int = limited(at_least=0)
    flip: float = limited(at_least=0, at_most=1)


@dataclass(kw_only=True)
class FabricConfig:
    accelerator: str = one_of(*ACCELERATORS)
    devices: Any  # a number, or "auto"
    num_nodes: int = limited(at_least=1)
    strategy: str = one_of("auto", "ddp")
    precision: str = one_of(*PRECISIONS)
    sync_batch_norm: bool = False


@dataclass(kw_only=True)
class WandbConfig:
    mode: str = one_of(*WANDB_MODES)
    project: str
    entity: str | None
    group: str | None
    name: str | None
    tags: list[str]
    notes: str | None
    job_type: str
    dir: str
    log_model: bool


@dataclass(kw_only=True)
class CheckpointConfig:
    every_steps: int | None = limited(default=None, at_least=1)
    every_minutes: float | None = limited(default=10.0, above=0)


@dataclass(kw_only=True)
class SweepConfig:
    name: str
    preflight: bool = True
    on_failure: str = limited(default="continue", choices=("continue", "stop"))
    on_code_change: str = limited(default="refuse", choices=("keep", "rerun", "refuse"))
    jobs_per_gpu: int = limited(default=1, at_least=1)
    varied: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Config:
    name: str
    seed: int = limited(at_least=0, below=2**32)
    epochs: int | None = limited(at_least=0)
    max_steps: int | None = limited(at_least=1)
    batch_size: int = limited(at_least=1)
    accumulate: int = limited(at_least=1)
    limit_batches: int | None = limited(at_least=1)
    lr: float = limited(above=0)
    decay_norm_and_bias: bool
    clip_grad_norm: float | None = limited(above=0)
    ema: float | None = limited(above=0, below=1)
    eval_every: int = limited(at_least=1)
    early_stop: int | None = limited(at_least=1)
    log_every: int = limited(at_least=1)
    callbacks: dict[str, Any] = field(default_factory=dict)  # name: a component
    compile: bool
    channels_last: bool
    deterministic: bool
    loss: Any  # _target_: any callable of scores and targets
    metrics: list[Any] = field(default_factory=list)  # components
    choose_by: str = "val/accuracy"
    model: Any  # _target_: any class that gives a module; weights: a file to start from
    data: DataConfig
    augment: list[Any]  # operations: a name, module.Class, or a mapping with a _target_
    optimizer: Any  # _target_: any class that takes parameters and lr
    scheduler: Any  # _target_: any class that takes an optimizer
    fabric: FabricConfig
    wandb: WandbConfig
    sweep: SweepConfig
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
