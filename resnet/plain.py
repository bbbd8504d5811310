"""Text that may come from elsewhere, made harmless for where it goes: a terminal, a picture, a spreadsheet, Markdown, LaTeX."""

import re
from typing import Any

# What moves a terminal's cursor, sends it commands or turns the reading direction; half characters, which no terminal can be sent.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
LONGEST = 150  # characters of a text in a picture
# Of any width.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$]")
LATEX = re.compile(r'[\\~^{}<>|"%_&#$]')
LATEX_NAMES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
}


def plain(text: str) -> str:
    r"""In one line, with each control character as it is written in Python: \x1b."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def plain_values(value: Any) -> Any:
    """All texts in lists and dicts, the dicts' keys too."""
    if isinstance(value, dict):
        return {plain_values(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def for_picture(text: str) -> str:
    """As long as fits into one. Between two dollar signs matplotlib would look for mathematics, in a path for instance."""
    text = plain(text).replace("$", "\\$")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def for_spreadsheet(text: str) -> str:
    """A cell that a spreadsheet would run as a formula is marked as text; numbers stay numbers."""
    text = plain(text)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def for_markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", plain(text))


def for_latex(text: str) -> str:
    """A cell that begins with a bracket or a star would be an option of the line break before it."""
    text = LATEX.sub(lambda match: LATEX_NAMES.get(match[0], f"\\{match[0]}"), plain(text))
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
