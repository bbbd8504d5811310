"""Where the time of a step goes: torch's profiler over some training steps, as a table, a Chrome trace and a picture."""

import os
import time

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile, schedule

from resnet.record.curves import draw_profile
from resnet.record.directory import PROFILE_TABLE, PROFILE_TRACE
from resnet.training.callbacks import Callback, Context

SKIPPED, WARM_UP, PROFILED = 5, 3, 12  # optimizer steps; those of the warm-up are recorded and dropped
# An operation has the first kind with a word in its name, else it counts as REST.
KINDS = {
    "convolutions": ("conv",),
    "normalisation": ("norm",),
    "optimizer": ("_fused_", "_foreach_", "optimizer", "addcmul", "lerp"),
    "loss": ("softmax", "nll_loss", "cross_entropy"),
    "activations": ("relu", "threshold", "gelu", "silu", "tanh", "sigmoid"),
    "sums and shortcuts": ("aten::add", "aten::pad", "constant_pad"),
    "images (crop, flip, scale)": ("aten::index", "aten::to", "aten::copy_", "aten::mul_", "aten::where", "aten::flip", "upsample"),
}
REST, BETWEEN = "other operations", "between operations (Python, waiting)"


class Profile(Callback):
    """Profiles steps after the first few, in the first process only. Counts each operation's own time; on a GPU, that of its kernels."""

    warning = "there is no profile: {}; the same command with another name=... makes one"

    def __init__(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps the profiler's own messages off the screen
        self.profiler: profile | None = None
        self.times: list[float] = []

    def start(self, context: Context) -> None:
        if not context.is_first:
            return
        self.directory, self.title = context.directory, context.title
        self.on_gpu = context.learner.fabric.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        plan = schedule(skip_first=SKIPPED, wait=0, warmup=WARM_UP, active=PROFILED, repeat=1)
        self.profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._write)
        self.profiler.start()

    def after_step(self, step: int) -> None:
        if self.profiler is None or len(self.times) >= SKIPPED + WARM_UP + PROFILED:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.profiler.step()

    def end(self, is_finished: bool) -> None:
        if self.profiler is not None:
            self.profiler.stop()

    def _write(self, profiler: profile) -> None:
        first = SKIPPED + WARM_UP - 1
        steps = len(self.times) - 1 - first
        if steps < 1:  # training ended early
            return
        averages = profiler.key_averages()
        key = "self_device_time_total" if self.on_gpu else "self_cpu_time_total"
        table = averages.table(sort_by=key, row_limit=60)
        self.directory.write(PROFILE_TABLE, lambda file: file.write(table.encode()))
        profiler.export_chrome_trace(str(self.directory / PROFILE_TRACE))
        milliseconds = dict.fromkeys([*KINDS, REST], 0.0)
        begun_here = (operation for operation in averages if operation.device_type == DeviceType.CPU)  # with the kernels that they launched
        for operation in begun_here:
            if not operation.key.startswith("ProfilerStep"):
                milliseconds[_kind(operation.key)] += getattr(operation, key) / 1000 / steps
        whole = 1000 * (self.times[-1] - self.times[first]) / steps
        milliseconds[BETWEEN] = max(whole - sum(milliseconds.values()), 0.0)
        draw_profile(self.directory, f"{self.title}: a step takes {whole:.0f} ms", milliseconds)


def _kind(operation: str) -> str:
    return next((kind for kind, words in KINDS.items() if any(word in operation for word in words)), REST)
