"""`python -m experiments`: all studies, one after another; what is trained already is skipped. Options are passed on to each."""

import argparse
import subprocess
import sys
from pathlib import Path

from resnet.interrupt import passing_on
from resnet.streams import keep_going

ORDER = ("degradation", "gradients", "shortcuts", "augmentation", "recipe", "table6", "search", "blocks")


def main() -> None:
    keep_going()
    parser = argparse.ArgumentParser(prog="python -m experiments", description="Runs all studies, or what is left of them, and draws them.")
    parser.add_argument("--draw", action="store_true", help="run nothing: figures and tables from results.csv")
    parser.add_argument("--cifar10", metavar="FILE", help="CIFAR-10 from an .npz file (see conf/data/arrays.yaml), not downloaded")
    parser.add_argument("overrides", nargs="*", help="of train.py, like hydra/launcher=parallel")
    parser.parse_args()  # each study takes the same
    for name in ORDER:
        print(f"experiments/{name}", flush=True)
        study = subprocess.Popen([sys.executable, "-m", f"experiments.{name}", *sys.argv[1:]], cwd=Path(__file__).parent.parent)
        with passing_on(study):
            status = study.wait()
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    main()
