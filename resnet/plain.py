"""Makes text from outside safe for its place: a terminal, a picture, a spreadsheet, Markdown, LaTeX."""

import re
from typing import Any

# Characters that move a terminal's cursor, send it commands or change the reading direction. Also lone surrogates, which cannot be printed.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
LONGEST = 150  # characters of a text in a picture
# Includes the full-width forms.
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
    r"""Returns the text in one line. Control characters become Python escapes, like \x1b."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def plain_values(value: Any) -> Any:
    """Applies `plain` to all texts in lists and dicts, including the keys."""
    if isinstance(value, dict):
        return {plain_values(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def for_picture(text: str) -> str:
    """Shortens a text for a picture. Escapes dollar signs, for example in a path, because matplotlib reads text between two of them as
    math.
    """
    text = plain(text).replace("$", "\\$")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def for_spreadsheet(text: str) -> str:
    """Marks a cell as text if a spreadsheet would run it as a formula. Numbers stay numbers."""
    text = plain(text)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def for_markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", plain(text))


def for_latex(text: str) -> str:
    """Escapes a cell. A cell that begins with a bracket or a star is put in braces, or LaTeX would read it as an option of the line break
    before.
    """
    text = LATEX.sub(lambda match: LATEX_NAMES.get(match[0], f"\\{match[0]}"), plain(text))
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
