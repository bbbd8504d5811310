"""The pictures of a WebDataset shard: an uncompressed tar file whose members of one key make a sample."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from resnet.data.errors import DataError
from resnet.data.pictures import is_picture_name
from resnet.data.spans import Index

LABELS = ("cls", "class", "label")  # members that hold nothing but the label
KEYS = ("label", "class", "cls", "class_name")  # of a JSON member
LONGEST_END = 2**20  # bytes
Row = tuple[str, str, int, int, bytes]


@dataclass
class Sample:
    """`pictures`: by their endings, (name, first byte, bytes, sha256)."""

    label: str | None = None
    pictures: dict[str, tuple[str, int, int, bytes]] = field(default_factory=dict)


def tar_index(file: Path) -> Index:
    """Reads the shard once. Raises DataError."""
    samples: dict[str, Sample] = {}
    try:
        for key, ending, member, content in _members(file):
            sample = samples.setdefault(key, Sample())
            if len(content) != member.size:
                raise DataError(f"{file}: truncated in {member.name}")
            if is_picture_name(Path(f"_.{ending}")):
                sample.pictures[ending] = member.name, member.offset_data, member.size, hashlib.sha256(content).digest()
            elif ending in LABELS or ending == "json":
                sample.label = _label(f"{file}/{member.name}", ending, content) or sample.label
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{file}: truncated, or no uncompressed tar file ({error}); pictures in .tar.gz cannot be read on their own"
        ) from None
    return Index.of([_row(file, key, sample) for key, sample in samples.items() if sample.pictures])


def _members(file: Path) -> Iterator[tuple[str, str, tarfile.TarInfo, bytes]]:
    """Yields key, ending, header and content: of a/b.seg.png the key is a/b and the ending seg.png, as in WebDataset."""
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isreg() and not path.name.startswith(".") and "__MACOSX" not in path.parts:
                begin, _, ending = path.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                yield str(path.parent / begin), ending.lower(), member, content.read()
        end = tar.offset
    with file.open("rb") as rest:
        rest.seek(end)
        if set(rest.read(LONGEST_END)) != {0}:  # tarfile itself takes a part for a whole
            raise tarfile.ReadError("it does not end with zeros")


def _label(name: str, ending: str, content: bytes) -> str | None:
    try:
        text = content.decode()
        if ending != "json":
            return text.strip() or None
        found = json.loads(text)
        value = next((found[key] for key in KEYS if key in found), None) if isinstance(found, dict) else None
    except ValueError:
        raise DataError(f"{name}: no {'JSON' if ending == 'json' else 'text'} in UTF-8") from None
    return str(value) if isinstance(value, str | int) else None


def _row(file: Path, key: str, sample: Sample) -> Row:
    """A sample's own picture has a plain ending; seg.png and the like stand beside it."""
    plain = [ending for ending in sample.pictures if "." not in ending] or list(sample.pictures)
    if len(plain) > 1:
        raise DataError(f"{file}: {key} has several pictures ({', '.join(plain)}); keep one")
    label = sample.label or PurePosixPath(key).parent.name
    if not label:
        raise DataError(f"{file}: {key} has no label; it needs a .cls, a .json with a label, or a folder of its class")
    name, start, size, digest = sample.pictures[plain[0]]
    return name, label, start, size, digest
