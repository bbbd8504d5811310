"""Config -> Fabric: the device, the precision and the processes of a run."""

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from resnet.config.errors import UserError
from resnet.config.launched import is_srun, is_torchrun, started_processes
from resnet.config.schema import Config
from resnet.training.memory import keep_freed_memory


def build_fabric(config: Config) -> Fabric:
    """Returns a launched Fabric with one process, or with those that the config, torchrun or srun ask for."""
    keep_freed_memory()
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = not config.deterministic
    fabric = make_fabric(config)
    try:
        fabric.launch()
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise _no_device(config, error) from None
    return fabric


def make_fabric(config: Config) -> Fabric:
    """Returns a Fabric that is not launched yet. Raises UserError if this machine has no such device."""
    settings = config.fabric
    devices, num_nodes = started_processes() or (settings.devices, settings.num_nodes)
    # Each process keeps the running statistics of its own share. Before use they are averaged over all processes, so that they describe all
    # images.
    ddp = DDPStrategy(forward_sync_buffers=False)
    strategy = ddp if settings.strategy == "ddp" or devices != 1 or num_nodes != 1 else "auto"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # Fabric announces each process
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=num_nodes,
            precision=settings.precision,  # type: ignore[arg-type]
            plugins=[_cluster()],
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise _no_device(config, error) from None
    if settings.sync_batch_norm and fabric.device.type != "cuda":
        raise UserError(f"fabric.sync_batch_norm=true: torch has it for GPUs only, and this is a {fabric.device.type}; set it to false")
    return fabric


def _cluster() -> ClusterEnvironment:
    """Replaces Fabric's guess, which takes a SLURM job script for processes that srun started."""
    return TorchElasticEnvironment() if is_torchrun() else SLURMEnvironment() if is_srun() else LightningEnvironment()


def _no_device(config: Config, error: Exception) -> UserError:
    devices, _ = started_processes() or (config.fabric.devices, 1)
    reason = " ".join(str(error).split())
    return UserError(
        f"fabric.accelerator={config.fabric.accelerator} fabric.devices={devices}: no such device here ({reason}); "
        "use fabric.accelerator=auto or cpu"
    )
