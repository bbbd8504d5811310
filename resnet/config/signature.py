"""The signature of a component as a schema: types, defaults, choices and limits of its settings.

Signatures of this package, and of what its short names stand for, are read from their source text, without importing it or torch. Others
are imported.
"""

import ast
import builtins
import dataclasses
import importlib.util
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from resnet.config import names
from resnet.config.targets import find_target

PACKAGE = Path(__file__).resolve().parents[1]
PLAIN = (int, float, bool, str)


class Known(dict[str, Any]):
    """The names that an annotation of this package may use when it is read from its text. Any other name means Any."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


KNOWN = Known(vars(names), Annotated=typing.Annotated, Literal=typing.Literal, Mapping=Mapping, Sequence=Sequence)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter. `default` is MISSING if a value is required. `limits` are those of the schema, plus `names` of built-in components."""

    name: str
    kind: Any
    default: Any = dataclasses.MISSING
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    by_keyword: bool = False  # alone


@dataclasses.dataclass(frozen=True)
class Signature:
    parameters: Mapping[str, Parameter]  # in order, including the first ones, which the run passes
    takes_any: bool  # **kwargs
    is_function: bool = False  # and no class

    def settings(self, handed: int) -> dict[str, Parameter]:
        """Returns all parameters but the first `handed`, which the run passes by position."""
        passed = [one.name for one in self.parameters.values() if not one.by_keyword][:handed]
        return {name: one for name, one in self.parameters.items() if name not in passed}


def is_own(target: str) -> bool:
    """True if the target belongs to this package."""
    return target.startswith(f"{PACKAGE.name}.")


def is_built_in(target: str) -> bool:
    """True if it belongs to this package, or if a short name stands for it, as for some of torchvision's."""
    return is_own(target) or target in names.AUGMENTATIONS.values()


@cache
def read_signature(target: str, given: str) -> Signature:
    """Reads the parameters of a target. `given` begins the message of the UserError if the target cannot be found."""
    if is_built_in(target):
        with suppress(*([] if is_own(target) else [ValueError])):  # another version of torchvision may be written differently
            if found := _from_source(target):
                return found
    return signature_of(find_target(given, target))


def signature_of(target: Any) -> Signature:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return Signature({}, True)
    hints = _hints(target.__init__ if inspect.isclass(target) else target)
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    made = [_parameter(one.name, hints.get(one.name, Any), _or_missing(one.default), one.kind is one.KEYWORD_ONLY) for one in named]
    return Signature({one.name: one for one in made}, any(one.kind is one.VAR_KEYWORD for one in parameters), inspect.isroutine(target))


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations may use names that are only imported for type checkers
        return {name: _resolved(one, function) for name, one in getattr(function, "__annotations__", {}).items()}


def _resolved(annotation: Any, function: Any) -> Any:
    try:
        return eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation  # as get_type_hints does
    except Exception:
        return Any


def _or_missing(default: Any) -> Any:
    return dataclasses.MISSING if default is inspect.Parameter.empty else default


def _from_source(target: str) -> Signature | None:
    """Reads a signature from source text. Returns None if the text is not enough; the target is then imported."""
    module, _, name = target.rpartition(".")
    file = _source_file(module)
    if file is None:
        return None
    node = next((item for item in _definitions(file) if item.name == name), None)
    if node is None and (inner := _imported_from(file, name)):
        return _from_source(f"{module}.{inner}.{name}")
    if isinstance(node, ast.ClassDef):
        is_plain = not node.bases
        node = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        handed = 1  # self
        if node is None and is_plain:
            return Signature({}, takes_any=False)
    else:
        handed = 0
    if node is None:
        return None
    arguments = node.args
    defaults = [*[None] * (len(arguments.args) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    named = [*arguments.args, *arguments.kwonlyargs]
    made = [_of_node(one, default, one in arguments.kwonlyargs) for one, default in zip(named, defaults, strict=True)][handed:]
    return Signature({one.name: one for one in made}, arguments.kwarg is not None, is_function=handed == 0)


def _source_file(module: str) -> Path | None:
    spec = importlib.util.find_spec(module.partition(".")[0])  # of a package by itself, which this does not import
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parents[1] / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


@cache
def _content(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text("utf-8")).body


def _definitions(file: Path) -> list[Any]:
    return [item for item in _content(file) if isinstance(item, ast.ClassDef | ast.FunctionDef)]


def _imported_from(file: Path, name: str) -> str | None:
    """Returns the module beside it from which a package's file imports the name."""
    imports = [item for item in _content(file) if isinstance(item, ast.ImportFrom) and item.level == 1 and file.name == "__init__.py"]
    return next((item.module for item in imports if any(alias.name == name for alias in item.names)), None)


def _of_node(argument: ast.arg, default: ast.expr | None, by_keyword: bool) -> Parameter:
    kind = _annotation(argument.annotation) if argument.annotation else Any
    return _parameter(argument.arg, kind, dataclasses.MISSING if default is None else ast.literal_eval(default), by_keyword)


def _annotation(node: ast.expr) -> Any:
    try:
        return eval(ast.unparse(node), {}, KNOWN)  # the text is our own
    except TypeError:  # e.g. Iterable[...], which is not in KNOWN
        return Any


def _parameter(name: str, annotation: Any, default: Any, by_keyword: bool) -> Parameter:
    kind, limits = _plain(annotation)
    if default is None and kind is not Any:
        kind = kind | None
    return Parameter(name, kind, list(default) if isinstance(default, tuple) else default, limits, by_keyword)


def _plain(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the type that a value in a config can have (Any if unknown) and its limits."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in PLAIN:
        return annotation, {}
    if origin is typing.Annotated:
        kind, limits = _plain(arguments[0])
        return kind, {**limits, **{key: value for note in arguments[1:] if isinstance(note, Mapping) for key, value in note.items()}}
    if origin is typing.Literal:
        return _plain_literal(arguments)
    if origin in (typing.Union, types.UnionType):
        return _plain_union(arguments)
    if isinstance(origin, type) and issubclass(origin, Sequence) and arguments and set(arguments[1:]) <= {..., arguments[0]}:
        kind, limits = _plain(arguments[0])
        return (list[kind] if kind in PLAIN else Any), limits  # type: ignore[valid-type]
    return Any, {}


def _plain_literal(choices: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    kinds = {type(value) for value in choices if value is not None}
    kind: Any = kinds.pop() if len(kinds) == 1 else Any
    return (kind | None if None in choices and kind is not Any else kind), {"choices": choices}


def _plain_union(members: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """Reduces a union to one plain type: `float | Tensor` is a number in a config; `int | str` can be anything. Only `int | list[int]` and
    its like stay."""
    found = [_plain(one) for one in members if one is not type(None)]
    plain = {str(kind): (kind, limits) for kind, limits in found if kind is not Any}
    if set(plain) == {str(int), str(float)}:
        del plain[str(int)]
    kinds = [kind for kind, _ in plain.values()]
    if len(kinds) == 2 and kinds[0] in PLAIN and kinds[1] == list[kinds[0]]:  # type: ignore[valid-type]
        return (kinds[0] | kinds[1] | None if type(None) in members else kinds[0] | kinds[1]), {}
    if len(plain) != 1:
        return Any, {}
    ((kind, limits),) = plain.values()
    return (kind | None if type(None) in members else kind), limits
