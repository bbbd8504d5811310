"""What is wrong with data that were asked for."""


class DataError(Exception):
    """One line: the file or key, what is wrong with it, and what to do."""
