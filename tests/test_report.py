"""The comparison page, opened in a headless browser: it says what the terminal says, moves as it should, and asks no network."""

import json
import random
import re
import shutil
from contextlib import contextmanager
from itertools import pairwise

import pytest
import yaml
from conftest import call, saved_config
from scipy import stats

from resnet.analysis.charts import axis, look
from resnet.analysis.comparison import as_data, compare_all, compare_runs
from resnet.analysis.page import associations, page
from resnet.analysis.runs import MISSING, look_for_runs
from resnet.analysis.tables import cells

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; the page is not opened")
SGD, ADAM = {"_target_": "torch.optim.SGD", "momentum": 0.9}, {"_target_": "torch.optim.Adam", "betas": [0.9, 0.999]}


def write(folder, number, seed, epochs=5, status="finished", name="digits", **settings):
    """A run directory as train.py leaves it, with a made-up course."""
    chance = random.Random(f"{settings}{seed}")
    directory = folder / f"{number:03}{seed}"
    directory.mkdir(parents=True)
    accuracy = 0.7 + settings["lr"] / 2 + chance.uniform(0, 0.02)
    config = saved_config(name="x", seed=seed, sweep={"name": "s"}, data={"name": name, "root": "data", "val_size": 100}, **settings)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [f"{10 * epoch},{epoch},{1 / epoch},{accuracy * (1 - 0.5**epoch)}" for epoch in range(1, epochs + 1)]
    (directory / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,val/accuracy", *rows, ""]))
    error = None if status == "finished" else "ValueError: the loss <is> nan"
    best, sizes = (
        {"step": 10 * epochs, "val/accuracy": accuracy, "val/loss": 0.1},
        {"parameters": 1000 * number + 1000, "flops": {"forward": 5_000_000, "training": 15_000_000}},
    )
    kept = {"status": status, "error": error, "overrides": [f"lr={settings['lr']}"], "best": best, **sizes, "seconds": 10.0 + number}
    kept |= {"test": {"accuracy": accuracy - 0.01, "loss": 0.5}, "commit": {"sha": "0123456789", "dirty": False}}
    (directory / "summary.json").write_text(json.dumps({**kept, "sessions": [{"torch": "2", "device": "cpu"}]}))


@pytest.fixture
def sweep(tmp_path):
    """12 groups of two seeds, three keys that vary; one run more, which failed."""
    folder, number = tmp_path / "s", 0
    for lr in (0.01, 0.1, 0.4):
        for optimizer in (SGD, ADAM):
            for width in (8, 16):
                for seed in (0, 1):
                    write(folder, number, seed, lr=lr, optimizer=optimizer, model={"width": width, "dropout": None})
                number += 1
    write(folder, number, 0, status="failed", lr=0.1, optimizer=SGD, model={"width": 8, "dropout": None})
    return folder


def made(folder, **chosen):
    comparison = compare_runs([folder], "val/accuracy", **chosen)
    return page(comparison, as_data(comparison))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, file, address="", **settings):
    """A tab with the page; at the end it must have asked for nothing but itself, and have found no fault."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    faults, requests = [], []
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    if settings:
        tab.set_viewport_size({"width": settings.pop("width", 1280), "height": 900})
        tab.emulate_media(**settings)
    tab.goto(f"{file.as_uri()}{address}")
    tab.wait_for_selector("body[data-drawn=all]")
    yield tab
    context.close()
    assert not faults and {url.split("#")[0] for url in requests} == {file.as_uri()}


@pytest.fixture
def file(sweep):
    target = sweep.parent / "page.html"
    target.write_text(made(sweep))
    return target


def shown(tab):
    return [row.locator("td").first.text_content() for row in tab.locator("#runs tbody tr:visible").all()]


def columns(tab, name):
    """Of a chart's glyphs."""
    return tab.evaluate(f"Object.fromEntries(Object.entries({model(name)}.data_source.data))")


def model(name):
    return f"Bokeh.documents.map(document => document.get_model_by_name('{name}')).find(Boolean)"


@in_browser
def test_it_says_what_the_terminal_says(browser, sweep, file) -> None:
    result = as_data(compare_runs([sweep], "val/accuracy"))
    with opened(browser, file) as tab:
        assert tab.locator(".answer").inner_text() == result["answer"]
        table = [[cell.strip() for cell in row.inner_text().split("\t")] for row in tab.locator("#groups tr").all()]
        assert table == cells(result)
        assert "25 runs found, 24 used in 12 groups" in tab.locator("main").inner_text() and len(shown(tab)) == 25
        assert "ValueError: the loss <is> nan" in (tab.locator("#failed").text_content() or "")
        best = compare_runs([sweep], "val/accuracy").best
        assert columns(tab, "points")["x"][:5] == [10, 20, 30, 40, 50]
        assert columns(tab, "points")["y"][4] == pytest.approx(
            100 * sum(run.curve("val/accuracy")[-1][1] for run in best.runs) / 2, rel=1e-4
        )


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_the_screen_and_takes_its_colours(browser, file, width, scheme) -> None:
    with opened(browser, file, width=width, color_scheme=scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) > 380) == (scheme == "light")
        ink = tab.evaluate(f"{model('intervals')}.renderers.at(-1).glyph.text_color.value")
        assert ink == tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()")
        tab.emulate_media(media="print")
        assert not tab.locator("#filter").is_visible() and "the loss <is> nan" in tab.locator("#failed").inner_text()
        assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.scrollHeight <= box.clientHeight + 1)")


@in_browser
def test_runs_are_sorted_filtered_and_copied_and_the_address_keeps_the_view(browser, file) -> None:
    with opened(browser, file) as tab:
        tab.locator("#runs th button", has_text="seconds").focus()
        tab.keyboard.press("Enter")
        assert shown(tab)[0].endswith("0000")
        tab.keyboard.press("Enter")
        assert shown(tab)[0].endswith("0120")
        tab.locator("#filter").fill("lr>0.05 optimizer=adam seed=1 model.width=8")
        assert [name[-4:] for name in shown(tab)] == ["0101", "0061"] and tab.locator("#count").inner_text() == "2 of 25"
        tab.locator("[data-copy=CSV][data-table=runs]").click()
        tab.wait_for_selector("text=copied")
        lines = tab.evaluate("navigator.clipboard.readText()").strip().split("\n")
        assert len(lines) == 3 and lines[0].startswith("run,status,lr,") and "0101,finished,0.4,8,adam,1," in lines[1]
        tab.locator("[data-copy=LaTeX][data-table=groups]").click()
        tab.wait_for_selector("[data-copy=LaTeX][data-table=groups] + [role=status]")
        assert r"val/accuracy (\%)" in tab.evaluate("navigator.clipboard.readText()")
        address = tab.evaluate("location.hash")
    with opened(browser, file, address) as again:
        assert [name[-4:] for name in shown(again)] == ["0101", "0061"]
        again.locator("#filter").fill("failed")
        assert [name[-4:] for name in shown(again)] == ["0120"]


@in_browser
def test_numbers_are_found_and_sorted_as_they_are_shown(browser, tmp_path) -> None:
    for number, lr in enumerate((0.0123456789012345, 0.2)):
        write(tmp_path, number, 0, lr=lr, clip_grad_norm=(None, 10.0)[number])
    write(tmp_path, 2, 0, lr=0.2, clip_grad_norm=2.0)
    (tmp_path / "page.html").write_text(made(tmp_path))
    with opened(browser, tmp_path / "page.html", "#filter=lr=0.0123457") as tab:
        assert [name[-4:] for name in shown(tab)] == ["0000"]
        tab.locator("#filter").fill("clip_grad_norm>=1")  # null is no number
        assert [name[-4:] for name in shown(tab)] == ["0010", "0020"]
        tab.locator("#filter").fill("")
        tab.locator("#runs th button", has_text="clip_grad_norm").click()
        assert [name[-4:] for name in shown(tab)] == ["0020", "0010", "0000"]


@in_browser
def test_of_what_differs_within_a_group_it_says_so(browser, sweep, tmp_path) -> None:
    (tmp_path / "page.html").write_text(made(sweep, by=["lr"]))
    with opened(browser, tmp_path / "page.html") as tab:
        rows = [row.inner_text().split("\t") for row in tab.locator("#difference tbody tr").all()]
    assert rows == [["lr", "0.4", "0.1"]]


@in_browser
def test_curves_follow_metric_and_smoothing_and_keep_the_raw_line(browser, file) -> None:
    with opened(browser, file) as tab:
        assert columns(tab, "raw")["ys"] == [] and len(columns(tab, "means")["ys"]) == 8
        tab.locator("#metric").select_option("train/loss")
        tab.locator("#shown").select_option("all")
        means = columns(tab, "means")
        assert len(means["ys"]) == 12 and means["ys"][0] == pytest.approx([1 / epoch for epoch in range(1, 6)], rel=1e-4)
        assert len({(color, str(dash)) for color, dash in zip(means["color"], means["dash"], strict=True)}) == 12
        tab.locator("#smooth").fill("0.5")
        assert columns(tab, "raw")["ys"][0] == pytest.approx([1 / epoch for epoch in range(1, 6)], rel=1e-4)
        assert columns(tab, "means")["ys"][0][1] == pytest.approx((1 * 0.25 + 0.5 * 0.5) / 0.75, rel=1e-4)


@in_browser
def test_the_mouse_over_a_curve_names_its_group(browser, sweep, file) -> None:
    with opened(browser, file) as tab:
        chart = tab.locator("#curves")
        chart.scroll_into_view_if_needed()
        point = """(() => {
            const plot = Bokeh.documents[0].roots().find(root => root.name == 'curves'), { frame } = Bokeh.index.get_by_id(plot.id);
            const { xs, ys } = Bokeh.documents[0].get_model_by_name('means').data_source.data;
            return [frame.x_scale.compute(xs[0][2]), frame.y_scale.compute(ys[0][2])];
        })()"""
        place, (x, y) = chart.bounding_box(), tab.evaluate(point)
        tab.mouse.move(place["x"] + x, place["y"] + y)
        told = tab.locator(".bk-tooltip-row-value")
        told.first.wait_for()
        group, step, value = told.all_text_contents()
        comparison = compare_runs([sweep], "val/accuracy")
        best = comparison.best
        assert group.strip() == comparison.changed(best) and step.strip() == "30"
        assert float(value) == pytest.approx(100 * sum(run.curve("val/accuracy")[2][1] for run in best.runs) / 2, rel=1e-4)


@in_browser
def test_two_groups_are_told_apart_and_missing_is_not_null(browser, file) -> None:
    with opened(browser, file, "#one=0&other=1") as tab:
        names = tab.locator("#one option").all_inner_texts()
        adam = next(index for index, name in enumerate(names) if "optimizer" not in name)
        sgd = next(index for index, name in enumerate(names) if "adam -> sgd" in name)
        tab.locator("#one").select_option(str(sgd))
        tab.locator("#other").select_option(str(adam))
        rows = [row.inner_text().split("\t") for row in tab.locator("#difference tbody tr").all()]
        assert ["optimizer._target_", "torch.optim.SGD", "torch.optim.Adam"] in rows
        assert ["optimizer.momentum", "0.9", "(missing)"] in rows and not any(row[0] == "model.dropout" for row in rows)


@in_browser
def test_a_box_over_an_axis_chooses_runs_everywhere(browser, file) -> None:
    with opened(browser, file) as tab:
        chart = tab.locator("#parallel")
        chart.scroll_into_view_if_needed()
        place = chart.bounding_box()
        scale = f"(plot => [plot.inner_width, plot.inner_height])({model('parallel')})"
        width, height = tab.evaluate(scale)

        def at(axis, value):  # of lr, width, optimizer, accuracy; each from 0 to 1
            return place["x"] + place["width"] - width + (axis + 0.3) / 4 * width, place["y"] + (1.1 - value) / 1.35 * height

        tab.mouse.move(*at(-0.2, 1.05))
        tab.mouse.down()
        tab.mouse.move(*at(0.2, 0.9), steps=4)
        tab.mouse.up()
        tab.wait_for_selector("#brushed:not(:empty)")
        assert len(shown(tab)) == 8 and {name[-4:-1] for name in shown(tab)} == {"008", "009", "010", "011"}  # lr=0.4
        chosen = tab.evaluate(f"{model('seconds')}.renderers[0].data_source.selected.indices.length")
        assert chosen == 8
        address = tab.evaluate("location.hash")
    with opened(browser, file, address) as again:
        assert len(shown(again)) == 8
        again.locator("#clear").click()
        assert len(shown(again)) == 25


@in_browser
def test_what_a_stranger_wrote_into_a_config_is_text(browser, tmp_path) -> None:
    for seed in (0, 1):
        write(tmp_path / "s", 0, seed, lr=0.1, note="</script><script>document.title = 'mine'</script>")
        write(tmp_path / "s", 1, seed, lr=0.1, note="<img src=x onerror=\"document.title = 'mine'\">$$x$$")
    (tmp_path / "page.html").write_text(made(tmp_path / "s"))
    with opened(browser, tmp_path / "page.html") as tab:
        assert tab.title().startswith("Comparison") and "<img src=x" in tab.locator("#groups").inner_text()


def test_the_same_runs_give_the_same_bytes(sweep) -> None:
    assert made(sweep) == made(sweep)


def test_500_runs_stay_under_3_megabytes_and_nothing_is_capped_silently(tmp_path) -> None:
    number = 0
    for lr in (0.01, 0.02, 0.05, 0.1, 0.4):
        for width in range(8, 58):
            for seed in (0, 1):
                write(tmp_path, number, seed, epochs=30, lr=lr, optimizer=SGD, model={"width": width, "dropout": 0.1 * (width % 3)})
            number += 1
    html = made(tmp_path)
    assert len(html.encode()) < 3_000_000 and html.count("data-run=") == 500
    assert "The chart has the first 20 of 250 groups, the table all." in html and "Which settings go with the result" in html
    write(tmp_path, number, 0, epochs=1000, lr=0.1, optimizer=SGD, model={"width": 8})
    assert "Long curves show every 9th record at the most" in made(tmp_path)  # 60,000 points over 501 runs


def test_associations_are_scipys(tmp_path) -> None:
    for number in range(32):
        optimizer = (SGD, ADAM)[number % 2]
        write(tmp_path, number, 0, lr=round(0.01 * (number % 8 + 1), 2), optimizer=optimizer, model={"width": 8 * (number % 3 + 1)})
    comparison = compare_runs([tmp_path], "val/accuracy")
    told = {key: (kind, size) for key, kind, size in associations(comparison)}
    means = [group.mean for group in comparison.groups]
    for key in ("lr", "model.width"):
        assert told[key] == ("Spearman", pytest.approx(stats.spearmanr([group.differing[key] for group in comparison.groups], means)[0]))
    parts = [[group.mean for group in comparison.groups if group.differing["optimizer"] == name] for name in ("sgd", "adam")]
    assert told["optimizer"] == ("share of rank variance", pytest.approx(stats.kruskal(*parts)[0] / (len(means) - 1)))


def test_where_nothing_is_held_out_none_is_chosen(sweep) -> None:
    for summary in sweep.glob("*/summary.json"):
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "best": None}))
    comparison = compare_all([sweep], look_for_runs([sweep]).runs, "val/accuracy")
    result = as_data(comparison)
    assert "none is chosen" in result["answer"] and not any(row["may_be_best"] for row in result["groups"])
    assert [row["paths"][0][-4:] for row in result["groups"]] == [f"{number:03}0" for number in range(12)]
    assert "Bold:" not in page(comparison, result)


def test_an_axis_is_logarithmic_where_that_spreads_it_and_has_a_slot_for_what_is_missing() -> None:
    assert axis([0.001, 0.1, 0.01]).heights == pytest.approx([0, 1, 0.5])
    assert axis([1, 2, 5]).heights == [0, 0.25, 1]
    odd = axis([[1, 1], [3, 3], [2, 2], MISSING, None])
    assert odd.heights[3] < 0 <= min(height for index, height in enumerate(odd.heights) if index != 3)
    assert odd.ticks[odd.heights[3]] == MISSING and odd.ticks[odd.heights[4]] == "null"
    assert sorted(odd.heights[:3]) == [odd.heights[0], odd.heights[2], odd.heights[1]]


def test_neighbours_differ_in_more_than_colour() -> None:
    looks = [look(rank) for rank in range(24)]
    assert len(set(looks)) == 24 and all(one[1:] != other[1:] for one, other in pairwise(looks))


def test_the_command_writes_it(sweep) -> None:
    done = call(sweep.parent, "-m", "resnet", "compare", sweep.name, "--html", "page.html", "--group-by", "lr optimizer")
    assert "page: page.html" in done.stdout and "used in 6 groups" in (sweep.parent / "page.html").read_text()
    assert "cannot be written" in call(sweep.parent, "-m", "resnet", "compare", sweep.name, "--html", "no/page.html", status=2).stderr
