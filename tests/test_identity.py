"""A run is what it was made of: other data, first weights or code under the same names are told, and never mixed."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT, call, compose
from PIL import Image
from test_run import summary

from resnet.analysis.comparison import as_data, compare_all
from resnet.analysis.runs import Run
from resnet.build_data import build_data
from resnet.config import config_hash
from resnet.config.hashing import completed, flatten
from resnet.data import digest
from resnet.record import content
from resnet.record.code import DECIDES

SMALL = ("data=arrays", "model.layers=[1]", "model.width=4", "scheduler=constant", "epochs=1", "data.val_size=40")
OWN = (*SMALL, "optimizer._target_=mine.Mine", "data.path=mine.npz")
MINE = "import torch\n\nclass Mine(torch.optim.SGD):\n    pass\n"
RUN = ROOT / "train.py"


def write_arrays(path, seed=0, **changed) -> None:
    chance = np.random.default_rng(seed)
    kept = {}
    for part, size in (("train", 200), ("test", 60)):
        kept |= {f"x_{part}": chance.integers(0, 256, (size, 8, 8), np.uint8), f"y_{part}": np.arange(size) % 10}
    np.savez(path, **{**kept, **changed})


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_arrays(folder / "mine.npz")
    (folder / "mine.py").write_text(MINE)
    call(folder, RUN, *OWN, "name=a")
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "outputs" / "a" / "config.yaml"
    config.write_text(config.read_text().replace(str(finished), str(tmp_path)))  # as if it had been trained here
    return tmp_path


def test_a_digest_is_of_images_labels_and_order(tmp_path) -> None:
    def digests(**changed):
        write_arrays(tmp_path / "mine.npz", **changed)
        build_data.__globals__["_data"].cache_clear()
        return build_data(compose("data=arrays", f"data.path={tmp_path / 'mine.npz'}", "data.val_size=0")).digests

    before = digests()
    assert digests() == before  # written again
    with np.load(tmp_path / "mine.npz") as file:
        x_train, y_train, x_test = file["x_train"], file["y_train"], file["x_test"]
    changes = {
        "train": [{"y_train": np.roll(y_train, 1)}, {"x_train": x_train[::-1], "y_train": y_train[::-1]}, {"x_train": x_train ^ 1}],
        "test": [{"x_test": np.concatenate([x_test[:-1], x_test[-1:] ^ 1])}],
    }
    for part, all_changed in changes.items():
        for changed in all_changed:
            now = digests(**changed)
            assert {name for name in before if now[name] != before[name]} == {part}


@pytest.mark.parametrize("cache_gb", [1, 0])
def test_one_replaced_file_of_a_folder_is_other_data(tmp_path, cache_gb) -> None:
    for number in range(40):
        path = tmp_path / "images" / ("train", "test")[number % 4 == 3] / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    shutil.copytree(tmp_path / "images" / "test" / "b", tmp_path / "images" / "test" / "a")

    def digests(path="images"):
        build_data.__globals__["_data"].cache_clear()
        own = ("data=folder", f"data.path={tmp_path / path}", "data.channels=1", "data.val_size=4", f"data.cache_gb={cache_gb}")
        return build_data(compose(*own)).digests

    before = digests()
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    assert digests("copy") == before
    Image.new("L", (8, 8), 99).save(tmp_path / "images" / "test" / "b" / "3.png")
    assert [name for name in before if digests()[name] != before[name]] == ["test"]
    for part in ("train", "test"):
        (tmp_path / "copy" / part / "b").rename(tmp_path / "copy" / part / "c")
    changed = [name for name in before if digests("copy")[name] != before[name]]
    assert "classes" in changed and "test" not in changed


def test_a_file_is_not_read_twice_while_it_stays_as_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "SETTLED", -1.0)  # the files of this test are new
    read = []
    read_digest = digest._read_digest
    monkeypatch.setattr(digest, "_read_digest", lambda path: read.append(path.name) or read_digest(path))
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file in files:
        file.write_text(file.name)

    def reads():
        read.clear()
        return digest.file_digests(files), sorted(read)

    first, _ = reads()
    assert reads() == (first, [])
    status = files[1].stat()
    files[1].write_text("x")  # as long, and with the old time
    os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    second, now_read = reads()
    assert now_read == ["b"] and second[1] != first[1] and second[::2] == first[::2]
    cache = tmp_path / "cache" / "resnet-lab" / "digests.sqlite"
    cache.write_bytes(b"no table" * 1000)
    assert reads() == (second, ["a", "b", "c"]) and reads()[0] == second
    assert reads() == (second, [])  # a damaged one was replaced
    cache.unlink()
    cache.mkdir()
    assert reads() == (second, ["a", "b", "c"])
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert reads() == (second, ["a", "b", "c"])


def test_a_file_that_may_still_change_is_read_again(tmp_path, monkeypatch) -> None:
    """Within a time stamp's precision a second change could not be seen."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("a")
    digest.file_digests([tmp_path / "a"])
    assert digest._recall({tmp_path / "a": digest.file_state(tmp_path / "a")}) == {}


@pytest.mark.parametrize("key", ["data.path", "model.weights"])
def test_a_path_is_no_identity(tmp_path, monkeypatch, key) -> None:
    (tmp_path / "mine").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    hashes = {config_hash(compose("data=arrays", "data.path=x", f"{key}='{path}'")) for path in ("mine", "./mine", "other/../mine", "link")}
    hashes |= {config_hash(compose("data=arrays", f"data.path={tmp_path}/x", f"{key}='{path}'")) for path in (tmp_path / "mine", "~/mine")}
    monkeypatch.chdir(tmp_path / "other")
    hashes.add(config_hash(compose("data=arrays", f"data.path={tmp_path}/x", f"{key}=../mine")))
    assert len(hashes) == 1
    assert config_hash(compose("data=arrays", f"data.path={tmp_path}/x", f"{key}=mine")) not in hashes


@pytest.mark.slow
def test_the_same_file_by_another_name_is_the_same_run(folder) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    place = ("name=a", f"hydra.run.dir={folder / 'outputs' / 'a'}", f"data.path={folder / 'mine.npz'}")
    assert "this run is finished" in call(elsewhere, RUN, *OWN[:-1], *place, PYTHONPATH=f"{ROOT}{os.pathsep}{folder}").stdout
    (folder / "mine.npz").rename(folder / "moved.npz")
    done = call(folder, "-m", "resnet", "resume", "outputs/a", "data.path=moved.npz", "epochs=2", "--allow", "mine")
    assert "epochs: 1 -> 2" in done.stdout and len(summary(folder / "outputs" / "a")["sessions"]) == 2
    report = call(
        elsewhere, "-m", "resnet", "evaluate", folder / "outputs" / "a", "--allow", "mine", "--json", PYTHONPATH=f"{ROOT}:{folder}"
    )
    assert json.loads(report.stdout)["changed_data"] == []


@pytest.mark.slow
def test_overwritten_data_are_refused_and_told(folder) -> None:
    write_arrays(folder / "mine.npz", seed=1)
    before = contents(folder / "outputs")
    for more in ("epochs=1", "epochs=2"):  # finished; to go on
        error = call(folder, RUN, *OWN, "name=a", more, status=2).stderr
        assert "outputs/a: its data have changed since it was trained (training images: digest" in error and error.count("\n") == 1
        assert "nothing was touched" in error and contents(folder / "outputs") == before
    told = call(folder, "-m", "resnet", "evaluate", "outputs/a", "--allow", "mine").stdout
    assert "not the data that it was trained with: test images: digest" in told
    (folder / "mine.npz").unlink()
    assert "its data could not be compared (" in call(folder, RUN, *OWN, "name=a").stdout


@pytest.mark.slow
def test_a_checkpoint_of_other_data_is_not_gone_on_with(folder) -> None:
    write_arrays(folder / "other.npz", seed=1)
    call(folder, RUN, *OWN, "data.path=other.npz", "name=b")
    for name in ("last.pt", "previous.pt"):
        shutil.copy(folder / "outputs" / "b" / "checkpoints" / "last.pt", folder / "outputs" / "a" / "checkpoints" / name)
    error = call(folder, RUN, *OWN, "name=a", "epochs=2", status=2).stderr
    assert "last.pt: of other data than this run's" in error and error.count("\n") == 1
    state = torch.load(folder / "outputs" / "b" / "checkpoints" / "best.pt", weights_only=True)
    assert state["data_digest"] == summary(folder / "outputs" / "b")["data"]["digest"]


@pytest.mark.slow
def test_first_weights_that_have_changed_are_told(folder) -> None:
    weights = ("data=arrays", "data.path=mine.npz", *SMALL[1:], "model.weights=outputs/a", "name=b")
    call(folder, RUN, *weights)
    state = torch.load(folder / "outputs" / "a" / "checkpoints" / "best.pt", weights_only=True)
    state["model"]["head.bias" if "head.bias" in state["model"] else next(iter(state["model"]))] += 1
    torch.save(state, folder / "outputs" / "a" / "checkpoints" / "best.pt")
    assert "model.weights: digest" in call(folder, RUN, *weights, status=2).stderr
    assert "it goes on from its own checkpoint" in call(folder, RUN, *weights, "epochs=2").stdout


@pytest.mark.slow
def test_edited_code_is_told(folder) -> None:
    kept = summary(folder / "outputs" / "a")
    assert {"mine", "resnet"} <= kept["code"]["modules"].keys() and (kept["commit"] is None or kept["commit"]["dirty"])
    assert "+class Mine(torch.optim.SGD):" in (folder / "outputs" / "a" / "code.patch").read_text()
    assert "has changed" not in call(folder, RUN, *OWN, "name=a").stdout
    (folder / "mine.py").write_text(f"{MINE}    lazy = True\n")
    assert "this run is finished, with test accuracy" in (told := call(folder, RUN, *OWN, "name=a").stdout)
    assert "the code has changed since (mine): another name=..." in told
    assert "the code has changed since step 2 (mine)" in call(folder, RUN, *OWN, "name=a", "epochs=2").stdout
    sessions = [session["code"]["mine"] for session in summary(folder / "outputs" / "a")["sessions"]]
    assert len(set(sessions)) == 2 and "\n+    lazy = True" in (folder / "outputs" / "a" / "code.patch").read_text()
    assert "\n+    lazy = True" not in (folder / "outputs" / "a" / "code.until-step-2.patch").read_text()


@pytest.mark.slow
def test_a_sweep_mixes_neither_data_nor_code(folder) -> None:
    grid = ("-m", *OWN, "lr=0.1,0.2", "sweep.name=s")
    call(folder, RUN, *grid)
    sweep = folder / "multirun" / "s"
    before = contents(sweep)
    (folder / "mine.py").write_text(f"{MINE}    lazy = True\n")
    error = call(folder, RUN, *grid, "seed=0,1", status=2).stderr
    assert (
        "jobs 0, 2 (" in error
        and "it is finished, and its code has changed since (mine)" in error
        and "nothing was started: 4 jobs, mistakes in 2" in error
    )
    assert contents(sweep) == before
    kept = call(folder, RUN, *grid, "sweep.on_code_change=keep").stdout
    assert "finished: mine changed" in kept and kept.count("it counts as it is") == 2
    assert "2 of 2 jobs finished" in call(folder, RUN, *grid, "sweep.on_code_change=rerun").stdout
    old = folder / "multirun" / "s.before-1"
    assert {path.name for path in old.iterdir()} == {path.parent.name for path in sweep.glob("*/config.yaml")}
    assert {file.relative_to(old): content for file, content in contents(old).items()} == {
        file.relative_to(sweep): content for file, content in before.items() if file.parent != sweep
    }
    write_arrays(folder / "mine.npz", seed=1)
    error = call(folder, RUN, *grid, status=2).stderr
    assert "jobs 0, 1 (" in error and "its data have changed since it was trained (training images: digest" in error


def made(name: str, seed: int, digest: str | None, path: str | None = None, **more) -> Run:
    data = {} if digest is None else {"digest": digest, "digests": {"train": digest}}
    values = {"status": "finished", "best": {"val/accuracy": 0.5, "val/loss": 1.0}, "data": data, "overrides": [], **more}
    config = {"seed": seed, "lr": 0.1, "sweep": {"name": "s"}, "data": {"name": "arrays", "path": path, "val_size": 0}}
    return Run(name, completed(flatten(config)), values)


def compared(*runs: Run):
    told = as_data(compare_all([], runs, "val/accuracy"))
    return {group["name"]: group["n"] for group in told["groups"]}, told["cautions"]


def test_runs_on_other_data_are_other_groups() -> None:
    one, two = "1" * 64, "2" * 64
    groups, cautions = compared(*(made(f"{one}{seed}", seed, one, "/x/a.npz") for seed in (0, 1)), made("c", 2, two, "/x/a.npz"))
    assert groups == {"data.digest=11111111": 2, "data.digest=22222222": 1}
    assert "the same data.path held different content in turn: data.digest tells it apart" in cautions
    copied, cautions = compared(made("a", 0, one, "/x/a.npz"), made("b", 1, one, "/y/b.npz"))
    assert copied == {"one config": 2} and cautions == []
    others, _ = compared(made("a", 0, one, "/x/a.npz"), made("b", 0, two, "/x/b.npz"))
    assert others == {"data.path=/x/a.npz": 1, "data.path=/x/b.npz": 1}
    turned, _ = compared(made("a", 0, one, "/x/a"), made("b", 0, two, "/x/a"), made("c", 1, two, "/x/b"))
    assert turned == {"data.digest=11111111": 1, "data.digest=22222222": 2}


def test_old_runs_count_to_those_of_their_settings_with_a_caution(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    one, path = "1" * 64, str(tmp_path / "a.npz")
    groups, cautions = compared(made("a", 0, one, path), made("b", 1, None, "a.npz"))
    assert groups == {"one config": 2} and any("1 of 2 runs do not say what their data were" in text for text in cautions)
    groups, _ = compared(made("a", 0, one, path), made("b", 1, None, "a.npz"), made("c", 2, "2" * 64, path))
    assert groups == {"data.digest=11111111": 1, "data.digest=22222222": 1, "data.digest=unknown": 1}
    assert compared(made("a", 0, None, "a.npz"), made("b", 1, None, "a.npz")) == ({"one config": 2}, [])


def test_other_first_weights_are_other_groups_and_other_code_is_a_caution() -> None:
    one = "1" * 64
    runs = [made(name, seed, one, weights=name * 64) for seed, name in enumerate("ab")]
    for run in runs:
        run.config["model.weights"] = "/x/w.pt"
    assert compared(*runs)[0] == {"model.weights_digest=aaaaaaaa": 1, "model.weights_digest=bbbbbbbb": 1}
    codes = [{"code": {"modules": {"mine": text * 64, "resnet": "0" * 64}}} for text in "ab"]
    groups, cautions = compared(*(made(str(seed), seed, one, **code) for seed, code in enumerate(codes)))
    assert groups == {"one config": 2} and cautions == ["different code: mine"]
    went_on = {**codes[0], "sessions": [{"code": {"mine": "b" * 64}, "torch": "2", "device": "cpu"}]}
    assert compared(made("a", 0, one, **went_on))[1] == ["different code: mine"]


CODE = """
import sys
import own.tracked, own.new, loose
from resnet.record.code import read_code
code = read_code()
print(sorted(code.modules), file=sys.stderr)
sys.stdout.buffer.write(code.patch)
"""


def test_a_patch_rebuilds_the_code_from_its_commit(tmp_path) -> None:
    """Changes of tracked files, and imported ones that are in no commit; nothing else that lies there, and no secret."""
    repository, outside = tmp_path / "repository", tmp_path / "outside"
    (repository / "own").mkdir(parents=True)
    outside.mkdir()

    def git(*arguments: str, folder=repository) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    (repository / "own" / "__init__.py").write_text("")
    (repository / "own" / "tracked.py").write_text("a = 1\n")
    (repository / "picture.bin").write_bytes(b"\0\1")
    git("add", ".")
    git("commit", "-qm", "first")
    files = {"own/tracked.py": b"a = 2\n", "own/new.py": b"b = 'no newline at the end, \xc3\xa9'"}
    for name, text in files.items():
        (repository / name).write_bytes(text)
    (repository / ".env").write_text("untracked and not imported")
    (repository / "picture.bin").write_bytes(b"\0\2")
    (outside / "loose.py").write_text("TOKEN = 'tok-123456789'\r\n\n")
    paths = os.pathsep.join(map(str, (ROOT, repository, outside)))
    environment = {**os.environ, "PYTHONPATH": paths, "MY_TOKEN": "tok-123456789"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True)
    assert {"'own.new'", "'loose'", "'resnet'"} <= set(done.stderr.decode().strip()[1:-1].split(", "))
    patch = done.stdout
    assert b"untracked and not imported" not in patch and b"tok-123456789" not in patch and b"[the value of MY_TOKEN]" in patch
    (tmp_path / "code.patch").write_bytes(patch)
    git("clone", "-q", str(repository), "copy", folder=tmp_path)
    git("apply", "--include=own/*", "--include=loose.py", str(tmp_path / "code.patch"), folder=tmp_path / "copy")
    assert {name: (tmp_path / "copy" / name).read_bytes() for name in files} == files
    assert (tmp_path / "copy" / "loose.py").is_file()
    (repository / "own" / "tracked.py").write_text("a = 3\n" * 400_000)
    large = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True).stdout
    assert len(large) < 1_100_000 and b"left out" in large and b"own/tracked.py" in large and b"own/new.py" in large


def test_each_repository_tells_of_its_own_code(tmp_path) -> None:
    """One inside another, as a submodule is; a module in a .zip; git called by a hook of another; and one that git cannot read."""
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    shutil.copytree(ROOT / "resnet", outer / "resnet")
    for folder, name in ((inner, "within"), (outer, "around")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("a = 1\n")
        for command in (["init", "-q"], ["add", f"{name}.py"], ["commit", "-qm", "first"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=folder, check=True, capture_output=True)
    (inner / "within.py").write_text("a = 2\n")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed.py", "a = 1\n")
    program = (
        "import around, within, packed; from resnet.record import code; told = code.read_code(); print(told.modules, told.patch.decode())"
    )
    paths = os.pathsep.join(map(str, (outer, inner, tmp_path / "packed.zip")))
    environment = {**os.environ, "PYTHONPATH": paths, "GIT_DIR": str(inner / ".git"), "PYTHONDONTWRITEBYTECODE": "1"}

    def told() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, check=True, text=True
        ).stdout

    first = told()
    assert "'packed'" in first and " of inner\n" in first and "\n+a = 2\n" in first and "\n-a = 1\n" in first and "b/within.py" in first
    assert "b/around.py" not in first
    (outer / ".git" / "index").write_bytes(b"damaged")
    assert "# left out: how outer differs from commit " in told()


@pytest.mark.parametrize("value", [None, [], "\x1b[2J", 3, {"train": 5}, {"train": "\x1b[2J"}, {"\x1b[2J": "1" * 64}])
def test_what_a_stranger_wrote_for_a_digest_is_not_known(value) -> None:
    """A difference would be a mistake of the user's, and is printed."""
    now = {"data": {"digest": "1" * 64, "digests": {"train": "1" * 64}}, "weights": "1" * 64, "code": {"modules": {"mine": "1" * 64}}}
    for before in (
        {"data": value, "weights": value, "code": value},
        {"data": {"digest": value, "digests": value}, "code": {"modules": value}},
    ):
        assert not content.other_data(before, now) and not content.other_weights(before, now) and not content.other_code(before, now)
        assert content.data_digest(before) is None


@pytest.mark.slow
def test_a_search_mixes_no_code(folder) -> None:
    search = ("-m", *OWN, "hydra/sweeper=search", "lr=tag(log,interval(0.01,1))", "sweep.name=q")
    call(folder, RUN, *search, "hydra.sweeper.n_trials=1")
    (folder / "mine.py").write_text(f"{MINE}    lazy = True\n")
    more = (*search, "hydra.sweeper.n_trials=2")
    assert "1 of its trials were made by other code (mine changed since)" in call(folder, RUN, *more, status=2).stderr
    assert "2 of 2 jobs finished" in call(folder, RUN, *more, "sweep.on_code_change=keep").stdout


def test_every_built_in_component_is_part_of_the_code_that_a_run_names() -> None:
    """Found by their targets in the config files and in the list of names: a changed loss is changed code, as a changed model is."""
    files = [*(ROOT / "conf").rglob("*.yaml"), ROOT / "resnet" / "config" / "names.py"]
    targets = {target for file in files for target in re.findall(r"\bresnet\.[\w.]+", file.read_text("utf-8"))}
    targets = {target for target in targets if not target.startswith(("resnet.sweeps.", "resnet.config."))}  # Hydra's own parts
    named = {target.split(".")[1] for target in targets}
    assert {"losses", "metrics", "distillation", "models", "data", "training"} <= named
    assert named <= {part.removesuffix(".py") for part in DECIDES}
