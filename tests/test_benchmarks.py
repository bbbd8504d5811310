"""The benchmark compares like with like, and says what holds."""

import pytest
import torch
from conftest import call, compose, real_data
from rounding import assert_same_scores

from benchmarks import article, photos
from benchmarks.__main__ import speed_rows, target_rows
from benchmarks.decode import WAYS, photo
from benchmarks.growth import Growth
from benchmarks.measure import interleaved
from benchmarks.speed import ARTICLE, DEEP, DEFAULT, PEAK, SAME_32, SAME_128
from resnet.build import build_model


@pytest.mark.numeric
def test_the_article_s_program_has_the_network_of_our_default() -> None:
    torch.manual_seed(0)
    theirs, ours = article.ResNet(), build_model(compose("data=digits"), 1, 10)
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 195_450
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.rand(4, 1, 32, 32)
    assert_same_scores(ours.eval()(images), theirs.eval()(images), ours)


def test_the_article_s_network_cannot_take_the_images_of_its_printed_test_loader() -> None:
    """The claim of experiments/recipe/README.md."""
    with pytest.raises(RuntimeError, match="64x7x7"):
        article.ResNet()(torch.zeros(1, 1, 28, 28))


@pytest.mark.full
def test_the_article_s_program_trains(tmp_path) -> None:
    data = real_data("MNIST", "raw", "train-images-idx3-ubyte").parents[2]
    output = call(tmp_path, "-m", "benchmarks.article", "--data", data, "--steps", 3, "--test").stdout
    assert "step 1 at " in output and "step 3 at " in output and "test accuracy 0." in output


@pytest.mark.filterwarnings("ignore:The image decoding")  # torchvision gives its decoders up
def test_each_way_to_decode_gives_the_same_picture(tmp_path) -> None:
    path = photo(tmp_path, (900, 900), 90)
    pixels = [way(path).float() for way in WAYS.values()]
    assert all(one.shape == (3, 224, 224) and (one - pixels[0]).abs().mean() < 1 for one in pixels)


def test_contenders_take_turns_and_their_medians_count() -> None:
    calls, values = [], iter([1.0, 10.0, 5.0, 20.0, 2.0, 90.0])

    def contender(name):
        return lambda: calls.append(name) or {"speed": next(values)}

    found = interleaved({"a": contender("a"), "b": contender("b")}, 3)
    assert calls == ["a", "b"] * 3 and found == {"a": {"speed": 2.0}, "b": {"speed": 20.0}}


def test_a_target_that_is_missed_says_so() -> None:
    one = {"images_per_second": 100.0, "megabytes": 500.0, "first_step": 4.0}
    found = {ARTICLE: one, PEAK: {"operations": 1e9}}
    found |= {name: {**one, "images_per_second": 150.0, "operations": 0.7e9} for name in (SAME_32, SAME_128, DEFAULT, DEEP)}
    inside = {"overhead": 0.03, "augmentation": 120.0, "evaluation": 2.6}
    rows = target_rows(found, inside, {"config": 2.0, "first_step": 1.7})
    verdicts = [row[-1] for row in rows[1:]]
    assert verdicts == ["holds", "holds", "does not hold", "holds", "holds", "does not hold", "holds", "holds", "holds", "does not hold"]
    assert [row[2] for row in speed_rows(found)][:3] == ["to the article's", "1.00", "1.50"]


@pytest.mark.slow
def test_both_readers_of_photographs_give_the_same_kind_of_batches(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos.write_photos(tmp_path / "photos", 42)
    found = {}
    for kind in (photos.Ours, photos.Theirs):
        images = torch.cat([batch[0] for batch in next(kind(tmp_path / "photos").epochs())])
        found[kind] = float(images.mean()), float(images.std())
        assert images.shape == (40, 3, 224, 224) and images.dtype == torch.float32
    assert found[photos.Ours] == pytest.approx(found[photos.Theirs], abs=0.15)  # ours are centres, scaled to 256 pixels before


def test_growth_is_judged_against_a_line_or_a_level() -> None:
    assert Growth("", "", "", "flat", [1, 2, 3], [10.0, 11.0, 9.0]).verdict == "within 10% of the median"
    assert Growth("", "", "", "line", [1, 2, 3], [3.0, 5.0, 7.0]).verdict == "1 + 2 each, within 0%"
