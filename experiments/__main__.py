"""`python -m experiments`: all studies, one after another; what is trained already is skipped. Options are passed on to each."""

import subprocess
import sys
from pathlib import Path

ORDER = ("degradation", "gradients", "shortcuts", "augmentation", "recipe", "table6", "search", "blocks")

if __name__ == "__main__":
    for name in ORDER:
        print(f"experiments/{name}", flush=True)
        status = subprocess.run([sys.executable, "-m", f"experiments.{name}", *sys.argv[1:]], cwd=Path(__file__).parent.parent).returncode
        if status:
            raise SystemExit(status)
