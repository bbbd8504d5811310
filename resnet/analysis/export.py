"""Exports a trained model for other programs, as ONNX with its preprocessing inside or as safetensors, under torchvision's names where the
network is torchvision's. Each file is checked before it is written.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet.analysis.saved import SavedRun, changed_data, load_data, load_model
from resnet.analysis.temperature import saved_temperature
from resnet.config import UserError
from resnet.config.errors import cause
from resnet.config.network import is_torchvisions
from resnet.data import Size, Split, plain_size
from resnet.data.files import fetched
from resnet.data.transforms import centre_crop
from resnet.models import ResNet
from resnet.models.published import torchvision_names
from resnet.models.weights import fit_weights
from resnet.record.directory import RunDirectory

NUM_CHECKED = 64  # test images
TORCHVISION = "torchvision's"
TOLERANCE = 1e-3  # for class scores, which are of the order of ten


class Deployed(nn.Module):
    """Images (N, C, H, W) uint8, as in the data set -> class scores and probabilities (N, K). Only the latter are scaled."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float], size: Size, temperature: float = 1.0) -> None:
        super().__init__()
        self.model, self.size, self.temperature = model, size, temperature
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model((centre_crop(images.float(), self.size) - self.mean) / self.std)
        return logits, F.softmax(logits / self.temperature, 1)


def export(run: SavedRun, kinds: list[str], which: str | None, folder: Path) -> dict[str, Any]:
    """Writes model.onnx and model.safetensors. Raises UserError if a package is missing or a file does not reproduce the model's scores."""
    model, checkpoint, step = load_model(run, which)
    model = model.float()  # for a model trained in 64-true
    known, data = run.summary["data"], load_data(run)
    images = _first_images(data.test)
    temperature = saved_temperature(run, checkpoint, step)
    deployed = Deployed(model, known["mean"], known["std"], run.model_size, temperature or 1.0).eval()
    with torch.no_grad():
        expected = deployed(images)[0]
    facts = {"classes": run.classes, "mean": known["mean"], "std": known["std"]}
    facts |= {"image_size": plain_size(run.size), "model_size": plain_size(run.model_size), "pictures": run.pictures, "fit": run.form.fit}
    facts |= {"checkpoint": checkpoint, "step": step, "config_hash": run.summary["config_hash"], "model": run.config.model}
    facts |= {"temperature": temperature} if temperature else {}
    facts["names"] = TORCHVISION if is_torchvisions(run.config.model) else "its own"  # of the parameters in .safetensors
    check_writable(folder)
    makers: dict[str, Callable[..., tuple[bytes, float]]] = {"onnx": _onnx, "safetensors": _safetensors}
    written = {}
    for kind in kinds:
        path = folder / f"model.{kind}"
        try:
            content, difference = makers[kind](deployed, images, expected, facts)
        except ModuleNotFoundError as error:
            raise UserError(f"export: {error.name} is not installed; pip install -e '.[export]'") from None
        if not difference <= TOLERANCE:  # also catches NaN
            raise UserError(f"{path}: its class scores differ from the model's by up to {difference:.2g}; it was not written")
        RunDirectory(folder).write(path.name, partial(_write, content))
        written[kind] = {"file": str(path), "bytes": len(content), "largest_difference": difference}
    return {
        "run": str(run.directory.path),
        "checkpoint": checkpoint,
        "step": step,
        "temperature": temperature,
        "checked_on": f"{len(images)} test images",
        "changed_data": changed_data(run, data),
        "names": facts["names"],
        "written": written,
    }


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def check_writable(folder: Path) -> None:
    """Makes the folder if needed. Raises UserError early, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".part").touch()
        (folder / ".part").unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out FOLDER") from None


def _first_images(split: Split) -> Tensor:
    images = split.images
    return fetched(images[torch.arange(min(NUM_CHECKED, len(images)))])


def _onnx(deployed: Deployed, images: Tensor, expected: Tensor, facts: dict[str, Any]) -> tuple[bytes, float]:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  # torch's exporter needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecation warnings
        try:
            program = torch.onnx.export(
                deployed,
                (images[:2],),
                input_names=["images"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # the exporter raises anything about a network that it cannot follow
            reason = cause(error.__cause__ or error)[:200]
            raise UserError(f"torch's exporter to ONNX cannot follow this network ({reason}); --format safetensors works") from None
    assert program is not None
    onnx.helper.set_model_props(proto := program.model_proto, {key: json.dumps(value) for key, value in facts.items()})
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    whole, single = (session.run(["logits"], {"images": part.numpy()})[0] for part in (images, images[:1]))  # checks two batch sizes
    return content, float(max(np.abs(whole - expected.numpy()).max(), np.abs(single - expected[:1].numpy()).max()))


def _safetensors(deployed: Deployed, images: Tensor, expected: Tensor, facts: dict[str, Any]) -> tuple[bytes, float]:
    from safetensors.torch import load, save

    model, names = deployed.model, dict[str, str]()
    if facts["names"] == TORCHVISION and isinstance(model, ResNet):
        names = torchvision_names(model)
    tensors = {_named(name, names): tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
    model.load_state_dict(fit_weights(model, load(content)).tensors)
    with torch.no_grad():
        return content, float((deployed(images)[0] - expected).abs().max())


def _named(name: str, layers: Mapping[str, str]) -> str:
    layer, _, parameter = name.rpartition(".")
    return f"{layers[layer]}.{parameter}" if layers else name
