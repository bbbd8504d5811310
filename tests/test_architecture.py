"""The rooms of docs/architecture.md: each imports only from those below it."""

import ast
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "resnet"
# From the top down; a room is a folder or a file of resnet/.
FLOORS = [
    {"__main__", "api", "new"},
    {"run", "closing", "ending", "restoring", "sweeps", "distillation"},
    {"analysis"},
    {"facts"},
    {"build", "build_data", "build_fabric", "memory", "build_model", "build_weights"},
    {"training"},
    {"record", "make"},
    {"config", "data", "losses", "metrics", "models"},
    {"interrupt", "plain", "ranks", "streams", "version"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def test_every_room_has_its_floor() -> None:
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "starter"} == FLOOR.keys()


def test_each_room_imports_only_from_those_below_it() -> None:
    assert [line for path in PACKAGE.rglob("*.py") for line in upward_imports(path)] == []


def upward_imports(path: Path) -> list[str]:
    room = room_of(path)
    if room in ("__init__", "starter"):  # the door, and what is copied out of here
        return []
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "resnet":
            rooms = {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
            found += [(node.lineno, other) for other in rooms & FLOOR.keys() if other != room and FLOOR[other] < FLOOR[room]]
    return [f"{path.relative_to(ROOT)}:{line}: {room} imports {other}, which lies above it" for line, other in found]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")
