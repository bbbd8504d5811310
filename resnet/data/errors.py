"""The error for wrong data."""

from collections.abc import Iterator
from contextlib import contextmanager

from resnet.plain import plain


class DataError(Exception):
    """The data cannot be used. The message is one line: the file or key, what is wrong with it, and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))  # file names may hold any characters


@contextmanager
def told_of(start: str) -> Iterator[None]:
    """Begins the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{start}{error}") from None
