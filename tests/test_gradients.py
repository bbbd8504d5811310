"""No wrong number from below: what PyTorch's libraries compute on this processor, and on an older one, is what the mathematics says."""

import os
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.numeric]


@pytest.mark.parametrize(
    "processor", [pytest.param({}, id="this"), pytest.param({"ONEDNN_MAX_CPU_ISA": "AVX2"}, id="AVX2", marks=pytest.mark.full)]
)
def test_gradients_in_channels_last_are_right_for_every_kind_of_network(processor) -> None:
    """In a process of its own: a library that writes past its memory ends the process, now or later, or never returns."""
    # Threads that look for work before they sleep make this seven times as slow where others use the cores too.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000", **processor}
    command = [sys.executable, str(ROOT / "tests" / "gradients.py"), "1", "2"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"it hangs: {(expired.stdout or b'').decode()[-200:]}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1] == "all computed", f"status {done.returncode} after {lines[-1:]}: {done.stderr[-500:]}"
    assert not [line for line in lines if line.startswith("WRONG")]
