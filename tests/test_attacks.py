"""FGSM and PGD: against a linear model, whose worst images are known, and by what every attack promises."""

import pytest
import torch
import torch.nn.functional as F

from resnet.analysis.attacks import fgsm, pgd
from resnet.analysis.evaluate import evaluate
from resnet.analysis.extras import Extras
from resnet.analysis.saved import open_run
from resnet.config import UserError

WEIGHTS = torch.tensor([[[[2.0, -1.0], [0.5, -0.25]]], [[[-2.0, 1.0], [-0.5, 0.25]]]])  # (K, C, H, W): class 0 against class 1
LABELS = torch.tensor([0, 1, 0])


def linear(images):
    return torch.einsum("nchw,kchw->nk", images, WEIGHTS)


def images(low=0.3, high=0.7):
    return low + (high - low) * torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def test_fgsm_finds_the_worst_images_of_a_linear_model() -> None:
    """The score of the true class falls fastest against the sign of its weights, here by hand."""
    away = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    expected = torch.stack([image + 0.1 * (away if label == 0 else -away) for image, label in zip(images(), LABELS, strict=True)])
    torch.testing.assert_close(fgsm(linear, images(), LABELS, 0.1), expected)
    torch.testing.assert_close(pgd(linear, images(), LABELS, 0.1, 40, torch.Generator().manual_seed(1)), expected)


@pytest.mark.parametrize("eps", [0.05, 0.5])
def test_changes_stay_within_eps_and_the_range_of_pixels_and_never_help(eps) -> None:
    clean = images(0, 1)

    def curved(batch):
        return linear((4 * batch).sin())

    for steps in (None, 1, 10):
        changed = fgsm(curved, clean, LABELS, eps) if steps is None else pgd(curved, clean, LABELS, eps, steps, torch.Generator())
        assert (changed - clean).abs().max() <= eps + 1e-6 and changed.min() >= 0 and changed.max() <= 1
    strongest = pgd(linear, clean, LABELS, eps, 20, torch.Generator().manual_seed(0))
    assert F.cross_entropy(linear(strongest), LABELS) >= F.cross_entropy(linear(clean), LABELS)


def test_the_start_is_drawn_and_repeats_with_its_seed() -> None:
    def blind(batch):  # has no gradient, so that the start is the result
        return 0 * linear(batch)

    first, again, other = (pgd(blind, images(), LABELS, 0.1, 1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, images())


def test_a_run_is_attacked(small_runs) -> None:
    run = open_run(small_runs[0])
    report = evaluate(run, extras=Extras(attacks=["fgsm", "pgd"], eps=[1e-6, 0.1, 0.3], steps=5))
    for rows in report["attacks"]["by_name"].values():
        shares = [row["accuracy"]["value"] for row in rows]
        assert shares[0] == pytest.approx(report["accuracy"]["value"], abs=2 / 359)  # which no such change can turn
        assert shares[0] > shares[1] > shares[2]
    pgd_rows, fgsm_rows = (report["attacks"]["by_name"][name] for name in ("pgd", "fgsm"))
    assert pgd_rows[2]["accuracy"]["value"] <= fgsm_rows[2]["accuracy"]["value"]
    for wrong, told in (
        ({"eps": [8.0]}, "eps=8: a share"),
        ({"steps": 0}, "steps=0"),
        ({"average": ["flip"]}, "one model"),
        ({"attacks": ["cw"]}, "attack=cw: no such choice; choose of fgsm, pgd"),
    ):
        with pytest.raises(UserError, match=told):
            evaluate(run, extras=Extras(**{"attacks": ["pgd"], **wrong}))
