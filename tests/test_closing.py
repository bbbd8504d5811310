"""What follows a run, and who looks on, never decides how it ended: pictures, pages, trackers, a screen that goes away."""

import json
import os
import resource
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT, call
from PIL import Image

from resnet.plain import LONGEST, for_picture
from resnet.record.trackers import Tracker, Trackers

QUICK = ("data=digits", "epochs=3", "model.layers=[1]", "model.width=4")


def summary(run):
    return json.loads((run / "summary.json").read_text())


def shell(folder, line, **options):
    """As from a notebook whose backend for pictures is not known here."""
    environment = {
        **os.environ,
        "MPLBACKEND": "of_a_notebook",
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = ["bash", "-c", f"set -o pipefail; {line}", sys.executable, str(ROOT / "train.py"), *QUICK]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ending",
    [
        "name=a | head -1",
        pytest.param("name=a >/dev/full 2>&1", marks=pytest.mark.full),
        "name=a >&- 2>&-",
        "seed=0,1 sweep.name=s | head -1",
        pytest.param("seed=0,1 sweep.name=s hydra/launcher=parallel 2>&1 | head -1", marks=pytest.mark.full),
    ],
)
def test_it_trains_on_when_nobody_reads(tmp_path, ending) -> None:
    done = shell(tmp_path, f'"$0" "$1" {"-m" if "seed" in ending else ""} "${{@:2}}" {ending}')
    assert done.returncode == 0 and done.stderr == ""
    runs = [path.parent for path in tmp_path.rglob("summary.json")]
    assert len(runs) == (2 if "seed" in ending else 1) and all(summary(run)["status"] == "finished" for run in runs)
    assert all("epoch 3/3" in (run / "train.log").read_text() and "test accuracy" in (run / "train.log").read_text() for run in runs)


@pytest.mark.slow
def test_a_page_that_does_not_fit_is_made_later_and_nothing_is_tested_again(tmp_path) -> None:
    """Under a name between dollar signs, which matplotlib would take for mathematics that it cannot read."""
    arguments, path = "'name=\"$x^ and $y_\"'", "'outputs/$x^ and $y_'"
    done = shell(tmp_path, f'"$0" "$@" {arguments}', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)))
    run = tmp_path / "outputs" / "$x^ and $y_"
    assert done.returncode == 0 and summary(run)["status"] == "finished", done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: outputs/$x^ and $y_: there is no report.html: ")
    assert "(File too large)" in line and line.endswith(f"; python -m resnet draw {path} makes it again")
    assert line in (run / "train.log").read_text() and "page: " not in done.stdout
    before = (run / "summary.json").read_bytes()
    (run / "curves.png").unlink()
    same = (ROOT / "train.py", *QUICK, 'name="$x^ and $y_"')
    again = call(tmp_path, *same).stdout
    assert "made what was missing: curves.png, report.html" in again and "this run is finished" in again
    assert (run / "summary.json").read_bytes() == before
    assert "made what was missing" not in call(tmp_path, *same).stdout
    for name in ("curves.png", "report.html"):
        (run / name).write_text("")
    call(tmp_path, "-m", "resnet", "draw", "outputs/$x^ and $y_")
    assert "<html" in (run / "report.html").read_text()
    with Image.open(run / "curves.png") as picture:
        assert picture.size[0] == 1200


@pytest.mark.slow
def test_draw_of_a_sweep_and_of_nothing(tmp_path) -> None:
    call(tmp_path, ROOT / "train.py", "-m", *QUICK, "seed=0,1", "sweep.name=s")
    page = tmp_path / "multirun" / "s" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert call(tmp_path, "-m", "resnet", "draw", "multirun/s").stdout == "multirun/s/report.html\n"
    assert page.read_bytes() == before
    assert (
        "nowhere: neither a run directory nor the folder of a sweep" in call(tmp_path, "-m", "resnet", "draw", "nowhere", status=2).stderr
    )


def test_drawing_imports_no_torch() -> None:
    program = "import sys, resnet.__main__, resnet.analysis.drawing; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_a_title_is_taken_as_it_stands() -> None:
    assert for_picture("a $x$ b") == r"a \$x\$ b" and for_picture("a\x1b[31m\nb") == r"a\x1b[31m\nb"
    assert len(for_picture("x" * 1000)) == LONGEST + 1


class Raising(Tracker):
    failed, again = "the mirror broke", "mend it"

    def __init__(self, error) -> None:
        self.error, self.calls, self.is_closed = error, 0, False

    def record(self, step, epoch, metrics) -> None:
        self.calls += 1
        raise self.error

    fail = finish = lambda self, *_: (_ for _ in ()).throw(self.error)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), MemoryError(), OSError(5, "Input/output error"), ValueError()])
def test_a_tracker_that_raises_is_told_of_once_and_left_out(error) -> None:
    told: list[str] = []
    mirror, last = Raising(error), Raising(error)
    trackers = Trackers(Tracker(), [mirror], told.append)
    for step in range(3):
        trackers.record(step, 0.0, {})
    trackers.finish({}, None)
    assert mirror.calls == 1 and mirror.is_closed and len(told) == 1
    assert told[0].startswith(f"the mirror broke: {type(error).__name__}") and told[0].endswith("; mend it") and "\n" not in told[0]
    Trackers(Tracker(), [last], told.append).fail({})
    assert len(told) == 2


def test_the_record_may_fail_a_run_until_its_summary_is_written() -> None:
    told: list[str] = []
    trackers = Trackers(Raising(OSError(28, "No space left on device")), [], told.append)
    with pytest.raises(OSError):
        trackers.record(1, 0.0, {})
    trackers.finish({}, None)
    assert len(told) == 1
