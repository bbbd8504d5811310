"""Temperature scaling (Guo et al. 2017): one number that divides the scores, so that probabilities say how often they are right."""

import json
import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from resnet.analysis.ensemble import Ensemble
from resnet.analysis.saved import SavedRun, load_data
from resnet.config import UserError
from resnet.metrics import calibration_error
from resnet.record.directory import DirectoryError
from resnet.record.reading import Unreadable, read_json

FILE = "temperature.json"
LEAST, MOST = 0.05, 20.0


def temperature_report(ensemble: Ensemble, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Fits the temperature on the held-out images, and returns what it does to the answers (N, K) for other images.

    The temperature of a single model is saved with its run. Raises UserError if the run held nothing out.
    """
    first = ensemble.members[0]
    held_out = load_data(first.run).val
    if held_out is None:
        where = first.run.directory.path
        raise UserError(f"{where}: it held nothing out (data.val_size=0), and a temperature is never fitted on test images")
    temperature = fit_temperature(ensemble.logits(held_out), held_out.labels)
    report = {
        "value": temperature,
        "held_out_images": len(held_out),
        "before": calibration(logits, labels),
        "after": calibration(logits / temperature, labels),
    }
    if len(ensemble.members) > 1 or first.views:
        return {"temperature": {**report, "saved": None, "not_saved": "it belongs to answers that are averaged"}}
    try:
        saved = save_temperature(first.run, temperature, first.file, first.step, len(held_out))
    except DirectoryError as error:
        return {"temperature": {**report, "saved": None, "not_saved": str(error)}}
    return {"temperature": {**report, "saved": saved}}


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Returns the divisor of the logits (N, K) with the lowest cross entropy. Raises UserError if it is beyond what can be meant."""
    from scipy.optimize import minimize_scalar

    scores = logits.double()
    found = minimize_scalar(
        lambda log: float(F.cross_entropy(scores / math.exp(log), labels)), bounds=(math.log(LEAST), math.log(MOST)), method="bounded"
    )
    temperature = math.exp(found.x)
    if not 1.01 * LEAST < temperature < MOST / 1.01:
        raise UserError(
            f"the {len(labels):,} held-out images fit no temperature from {LEAST} to {MOST:g} (it would be as if all of them, or none, "
            "were answered rightly); hold out more images (data.val_size)"
        )
    return temperature


def calibration(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns the cross entropy and the calibration error."""
    confidence, answers = logits.double().softmax(1).max(1)
    return {
        "loss": float(F.cross_entropy(logits.double(), labels)),
        "calibration_error": calibration_error(confidence, answers == labels),
    }


def save_temperature(run: SavedRun, temperature: float, file: str, step: int, images: int) -> str:
    """Writes the temperature beside the weights that it belongs to. Returns the path. Raises DirectoryError."""
    text = json.dumps({"temperature": temperature, "checkpoint": file, "step": step, "held_out_images": images}, indent=2)
    run.directory.write(FILE, lambda target: target.write(text.encode() + b"\n"))
    return str(run.directory / FILE)


def saved_temperature(run: SavedRun, file: str, step: int) -> float | None:
    """Returns the temperature that was fitted to these weights; None if there is none, or if it belongs to other weights."""
    path = run.directory / FILE
    if not path.exists():
        return None
    kept = read_json(path)
    if (kept.get("checkpoint"), kept.get("step")) != (file, step):
        return None
    value = kept.get("temperature")
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise Unreadable(path, "temperature: a finite number above 0 is needed")
    return float(value)
