"""`python -m resnet new FOLDER`: writes a small package to start from, with a block, a loss, an experiment and their tests."""

import keyword
import re
from pathlib import Path

from resnet.config.errors import UserError

STARTER = Path(__file__).with_name("starter")
NAME = re.compile("(?<![A-Za-z])lab(?![A-Za-z])")  # the package's name inside its files


def new(folder: Path) -> list[str]:
    """Writes the files and returns their paths. Raises UserError if the folder is not empty, or its name cannot be that of a package."""
    name = folder.resolve().name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UserError(f"{folder}: Python cannot import a package of this name; take letters, digits and _, as in lab")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: it is there and not empty; give the name of a new folder")
    written = []
    try:
        for file in sorted(path for path in STARTER.rglob("*") if path.suffix in (".py", ".yaml", ".md")):
            target = folder / NAME.sub(name, str(file.relative_to(STARTER)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(NAME.sub(name, file.read_text("utf-8")), encoding="utf-8")
            written.append(str(target))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror}); choose another folder") from None
    return written
