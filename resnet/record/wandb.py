"""Mirrors a run to Weights & Biases, offline unless configured otherwise. W&B's client runs in another process (wandb_process.py)."""

import os
import pickle
import queue
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resnet.config.hashing import flatten
from resnet.record import wandb_record
from resnet.record.directory import BEST, INTERRUPTED, LAST, PROBES, Row, RunDirectory, shortest
from resnet.record.metrics import others
from resnet.record.trackers import RunFacts, TestReport, Tracker, TrackerError

PROGRAM = Path(__file__).with_name("wandb_process.py")
STARTS_WITHIN, ENDS_WITHIN, LEAVES_WITHIN = 60.0, 20.0, 2.0  # longest times that a run waits for W&B, in seconds
UPLOAD = 1e6  # assumed upload speed in bytes per second, for the time limit with log_model
NEEDED = 1 << 20  # bytes that must be free in W&B's folder
MOST = 64  # characters of a name or a tag: W&B's limit for tags
# Environment variables that W&B would read itself, although the config has already settled their values.
DECIDED = re.compile(
    r"WANDB_(MODE|DISABLED|PROJECT|ENTITY|(RUN_)?(NAME|TAGS|NOTES|JOB_TYPE)|RUN_GROUP|(ROOT_)?DIR|RUN_ID|RESUME.*|FORK.*|SERVICE|SILENT)"
)


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """The facts of a run that its W&B record shows. `overrides` are those that differ from the defaults."""

    directory: Path
    name: str
    overrides: Sequence[str]
    config: dict[str, Any]
    parameters: int
    flops: int

    @classmethod
    def of(cls, facts: RunFacts) -> "Mirrored":
        return cls(**{field.name: getattr(facts, field.name) for field in fields(cls)})


class WandbTracker(Tracker):
    """Mirrors a run to one W&B run, however often it is interrupted. `settings` are the keys of conf/wandb.

    Offline, the record is rewritten from the rows of metrics.csv, because W&B cannot append to an offline file. Online, W&B resumes it.
    """

    failed = "the W&B record is not complete"

    def __init__(self, settings: dict[str, Any], run: Mirrored, summary: dict[str, Any]) -> None:
        """Starts the W&B run under the id in the summary; if that id is taken, writes a new one into the summary.

        Raises:
            TrackerError: W&B evidently does not work.
        """
        self.mode, self.log_model, self.directory = settings["mode"], settings["log_model"], RunDirectory(run.directory)
        self.again = f"python -m resnet resume {shlex.quote(shortest(run.directory))} writes it again"
        try:
            top = Path(settings["dir"]).expanduser().absolute()
        except RuntimeError:
            raise TrackerError(f"wandb.dir={settings['dir']}: nobody of that name has a home here; write out the folder's path") from None
        folder = top / (".wandb" if (top / ".wandb").exists() else "wandb")  # as W&B chooses
        made = _make(folder, settings["dir"])
        before = set(os.listdir(folder))
        try:
            wandb_record.remove_own(summary, run.directory, folder)
            while not wandb_record.claim(folder, summary["wandb_run"], run.directory):
                summary["wandb_run"] = secrets.token_hex(4)
        except OSError as error:
            raise TrackerError(f"wandb.dir={settings['dir']}: {error.filename}: {error.strerror}; {_hint('offline', '')}") from None
        known = {"RUN_ID": summary["wandb_run"], "PROJECT": settings["project"], "ENTITY": settings["entity"]}
        self.client = Client({f"WANDB_{name}": value for name, value in known.items() if value})
        try:
            self.client.send("start", folder=str(folder), command=sys.argv, **_start(settings, run, summary, top))
            started = self.client.answer(STARTS_WITHIN)
            self.folder, self.url = Path(started["folder"]), started["url"]
        except BaseException as error:  # signals too
            self.close()
            _take_back(folder, before, summary["wandb_run"], made)
            if isinstance(error, TrackerError):
                raise TrackerError(f"wandb.mode={self.mode}: {error}; {_hint(self.mode, str(error))}") from None
            raise
        self.client.send("summary", values={"parameters": run.parameters, "flops": run.flops})

    @property
    def links(self) -> dict[str, str]:
        """How to look at the run, as label: text."""
        if self.mode == "online" and self.url:
            return {"W&B": self.url}
        parent, folder = (shlex.quote(shortest(path)) for path in (self.folder.parent, self.folder))
        return {"W&B, look offline": f"wandb leet {parent}", "W&B, upload": f"wandb sync {folder}"}

    def replay(self, rows: Sequence[Row]) -> None:
        """Sends the rows from before, so that the record is complete."""
        self.client.send("log", rows=[{key: value for key, value in row.items() if value is not None} for row in rows])

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        self.client.check()
        self.client.send("log", rows=[{"step": step, "epoch": epoch, **metrics}])

    def finish(self, summary: dict[str, Any], report: TestReport | None) -> None:
        """`report` is None if the run was tested in an earlier process, because its predictions are not saved."""
        self.client.check()
        files = {"probes": str(self.directory / PROBES)} if (self.directory / PROBES).exists() else {}
        self.client.send("pictures", **_pictures(report), files=files)
        test = {f"test/{key}": summary["test"][key] for key in ("accuracy", "loss", *others(summary)) if key in summary["test"]}
        self.client.send("summary", values={**test, "status": summary["status"]})
        limit = ENDS_WITHIN
        if self.log_model:
            best = self.directory / BEST
            file = best if best.exists() else self.directory / LAST
            limit += file.stat().st_size / UPLOAD
            self.client.send("model", file=str(file))
        self._end(0, False, limit)

    def fail(self, summary: dict[str, Any]) -> None:
        self.client.send("summary", values={"status": summary["status"], "error": summary["error"]})
        self._end(1, summary["status"] == INTERRUPTED, ENDS_WITHIN)

    def _end(self, exit_code: int, is_preempted: bool, limit: float) -> None:
        if self.mode == "online":  # for rows that did not arrive
            self.again += f", wandb sync {shlex.quote(shortest(self.folder))} sends what it holds"
        self.client.send("finish", exit_code=exit_code, is_preempted=is_preempted)
        self.client.answer(limit)
        if self.mode == "offline" and not any(self.folder.glob("*.wandb")):  # W&B recreates a removed folder for its pictures
            raise TrackerError(f"{shortest(self.folder)} was removed or moved meanwhile")
        if shutil.disk_usage(self.folder).free == 0:  # W&B does not report a full disk
            raise TrackerError(f"{shortest(self.folder.parent)} is full")
        self.close()

    def close(self) -> None:
        self.client.close()


class Client:
    """The process of W&B's client. send() never blocks; errors of the process are raised at the next check() or answer()."""

    def __init__(self, known: dict[str, str]) -> None:
        """`known`: variables that W&B reads only from the environment if a sweep agent of W&B started the run."""
        environment = {name: value for name, value in os.environ.items() if not DECIDED.fullmatch(name)} | known
        self.complaints = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - as long as the process; for Python's errors at the start
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],  # -P keeps the program's folder, with our wandb.py, off the path
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run only
        )
        self.requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        for target in (self._write, self._read):
            threading.Thread(target=target, daemon=True).start()

    def send(self, name: str, **arguments: Any) -> None:
        self.requests.put(pickle.dumps((name, arguments)))

    def check(self) -> None:
        """Raises TrackerError if the client has given up."""
        with suppress(queue.Empty):
            self._take(block=False)

    def answer(self, seconds: float) -> Any:
        """Returns the next answer. Raises TrackerError if the client has given up or takes longer."""
        try:
            return self._take(timeout=seconds)
        except queue.Empty:
            raise TrackerError(f"it did not answer within {seconds:.0f} s") from None

    def close(self) -> None:
        """Ends the process, whatever it is waiting for."""
        self.requests.put(None)
        try:
            self.process.wait(LEAVES_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _take(self, **how: Any) -> Any:
        name, content = self.answers.get(**how)
        if name == "failed":
            self.answers.put((name, content))  # for the next caller
            raise TrackerError(content)
        return content

    def _write(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # _read reports a broken pipe
            while (request := self.requests.get()) is not None:
                self.process.stdin.write(request)
                self.process.stdin.flush()
        with suppress(OSError):
            self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self.answers.put(pickle.load(self.process.stdout))
        self.answers.put(("failed", f"its process ended{self._cause()}"))

    def _cause(self) -> str:
        """Returns the error that stopped the program at its start, for example with a damaged installation of W&B."""
        self.complaints.seek(0)
        with self.complaints:
            lines = self.complaints.read().decode(errors="replace").splitlines()
        return f" ({lines[-1]})" if any(line.startswith("Traceback ") for line in lines) else ""


def display_name(overrides: Sequence[str], config: dict[str, Any]) -> str:
    """Returns a short name from the overrides: in a sweep those that differ between its jobs. Keys are without their group if they stay
    unique.
    """
    varied = config["sweep"].get("varied") or []
    pairs = [text.lstrip("+").partition("=") for text in overrides]
    ends = [key.rpartition(".")[2] for key in flatten(config)]
    named = [
        f"{key if ends.count(key.rpartition('.')[2]) != 1 else key.rpartition('.')[2]}{equals}{value}"
        for key, equals, value in pairs
        if not varied or key in varied
    ]
    text = " ".join(named)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def _start(settings: dict[str, Any], run: Mirrored, summary: Mapping[str, Any], top: Path) -> dict[str, Any]:
    overrides = list(run.overrides)
    is_online = settings["mode"] == "online"
    return {
        "settings": {
            "silent": True,
            "console": "off",
            "init_timeout": 15,
            "x_transaction_log_flush_interval": 1.0,
            "program": os.path.abspath(sys.argv[0]),
            "x_stats_pid": os.getpid(),  # W&B records the memory and load of this process
        },
        "directions": {name: read["direction"] for name, read in summary.get("metrics", {}).items()},
        "init": {
            **{key: settings[key] for key in ("mode", "project", "entity", "group", "notes", "job_type")},
            "dir": str(top),
            "id": summary["wandb_run"],
            "resume": "allow" if is_online else None,
            "name": settings["name"] or display_name(overrides, run.config) or run.name,
            "tags": [*settings["tags"], *(text for text in overrides if len(text) <= MOST)],
            "config": {**run.config, "overrides": overrides, "run_name": run.name},
        },
    }


def _pictures(report: TestReport | None) -> dict[str, Any]:
    if report is None:
        return {"matrix": None, "worst": []}
    worst = [(item.image, f"{item.label} taken for {item.answer} ({100 * item.probability:.0f} %)") for item in report.worst]
    answers = {"y_true": report.labels.tolist(), "preds": report.answers.tolist(), "class_names": list(report.classes)}
    return {"matrix": answers, "worst": worst}


def _make(folder: Path, given: str) -> list[Path]:
    """Makes W&B's folder and checks that it is writable. Returns the folders that were made, the innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(b"0" * 4096)
            reason = "no space is left on the device" if shutil.disk_usage(folder).free < NEEDED else ""
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        reason = str(error.strerror or error)
    if reason:
        _remove(made)
        raise TrackerError(
            f"wandb.dir={given}: {shortest(folder)} cannot be written ({reason}); "
            "make room or make it writable, choose another folder with wandb.dir=..., or train without W&B: wandb=disabled"
        )
    return made


def _take_back(folder: Path, before: set[str], run_id: str, made: Sequence[Path]) -> None:
    """Removes what a client left that could not start. Keeps records of other runs that were written meanwhile."""
    for path in folder.iterdir():
        if path.name not in before and path.name.endswith(f"-{run_id}") and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    (folder / wandb_record.MARKERS / run_id).unlink(missing_ok=True)
    left = [path for path in folder.iterdir() if path.name not in before]
    if made and not any("run-" in path.name and path.is_dir() and not path.is_symlink() for path in left):
        shutil.rmtree(folder, ignore_errors=True)
        _remove(made)


def _remove(folders: Sequence[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # never made, or in use by others now
            path.rmdir()


def _hint(mode: str, reason: str) -> str:
    if reason.startswith("WANDB_"):
        return "set it right, or unset it"
    if mode == "offline":
        return "wandb=disabled trains without W&B"
    if "key" in reason.lower() or "login" in reason.lower() or "auth" in reason.lower():
        return "run `wandb login`, or record offline with wandb=offline"
    if re.search("error 40[13]", reason):
        return "check your key (`wandb login --relogin`) and wandb.entity, or record offline with wandb=offline"
    return "check the network and WANDB_BASE_URL, or record offline with wandb=offline"
