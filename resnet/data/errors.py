"""What is wrong with data that were asked for."""

from resnet.plain import plain


class DataError(Exception):
    """One line: the file or key, what is wrong with it, and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))  # files may have any name
