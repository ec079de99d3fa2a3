"""Source code as a figure: where it stands, and in colours that follow the reader's theme."""

from __future__ import annotations

import ast
import inspect
import re
import reprlib
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from cnnlib.errors import CnnlibError
from cnnlib.explore.html import Html, asset, figure
from cnnlib.models import card


class NoSource(CnnlibError, TypeError):
    """The source of an object is in no file."""


def source(obj: Any) -> Html:
    """Show the source of a class, a function, a module or a model, and say where it stands.

    The name of a model, ``"resnet20"`` say, shows what its file says of this model: the class or function that builds
    it and, from there on, the blocks, functions and tables that are used. Of other files there are the imports. Any
    other object, such as a network, stands for its class.

    ``print`` the result, or take ``str`` of it, for the source alone.

    Raises:
        UnknownModel: if there is no model of this name.
        NoSource: if the source is in no file: the object is built in, or was typed in.
    """
    if isinstance(obj, str):
        return _model(obj)
    obj = inspect.unwrap(obj.func if isinstance(obj, partial) else obj)
    if not (inspect.isclass(obj) or inspect.isroutine(obj) or inspect.ismodule(obj)):
        obj = type(obj)
    name = obj.__name__ if inspect.ismodule(obj) else obj.__qualname__
    try:
        lines, first = inspect.getsourcelines(obj)
        file = _file(obj)
    except (OSError, TypeError) as error:
        raise NoSource(
            f"the source of {name} is in no file: it is built in, or was typed in; "
            "give a class, function or module of a file, or the name of a model"
        ) from error
    first = max(first, 1)  # that of a module is 0
    last = first + len(lines) - 1
    return _figure(name, f"{file}, lines {_span((first, last))}", textwrap.dedent("".join(lines)))


def _span(lines: tuple[int, int]) -> str:
    return "-".join(map(str, dict.fromkeys(lines)))


def _file(obj: Any) -> str:
    """Return the file of an object, relative to the folder in which its package lies."""
    path = Path(inspect.getsourcefile(obj))
    module = inspect.getmodule(obj)
    if module is None or module.__name__ == "__main__":
        return "this session"
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return path.relative_to(path.parents[depth]).as_posix()


# ---- what a model is made of -----------------------------------------------------------------------------------------


_PLAIN = (str, float, int, type(None))  # values that need no name


@dataclass(frozen=True)
class _Statement:
    """A statement at the top of a module: its lines with the comment above, and the names that stand in it."""

    first: int
    last: int
    names: frozenset[str]


def _model(name: str) -> Html:
    model = card(name)
    parts = [*_parts(model.build)]
    spelled: dict[int, str] = {}
    where, texts = [], []
    for module in (sys.modules[home] for home in dict.fromkeys(map(_home, parts)) if home.startswith("cnnlib.")):
        lines = inspect.getsource(module).splitlines()
        statements = _statements(lines)
        values = {key: vars(module)[key] for key in statements if key in vars(module)}
        spelled |= {id(value): key for key, value in values.items() if not isinstance(value, _PLAIN)}
        ranges = _ranges(_used([spelled[id(part)] for part in parts if id(part) in spelled], statements), lines)
        if not ranges:  # the name of the table was passing
            continue
        where.append(f"{_file(module)}, lines {', '.join(map(_span, ranges))}")
        texts += ["\n".join(lines[first - 1 : last]) for first, last in ranges]
    caption = f"{model.name} is {_call(model.build, spelled)}: {'; '.join(where)}"
    return _figure(model.name, caption, "\n\n\n".join(texts) + "\n")


def _home(part: Any) -> str:
    """Return the name of the module that a part comes from; that of a table is the one in which it has a name."""
    if hasattr(part, "__qualname__"):
        return part.__module__
    holders = (name for name, module in sys.modules.items() if name.startswith("cnnlib.models."))
    return next((name for name in holders if any(value is part for value in vars(sys.modules[name]).values())), "")


def _parts(build: Any) -> Iterator[Any]:
    """Yield what a partial is made of: its function and its arguments, and theirs."""
    if isinstance(build, partial):
        for part in (build.func, *build.args, *build.keywords.values()):
            yield from _parts(part)
    elif not isinstance(build, _PLAIN):
        yield build


def _call(build: Any, spelled: Mapping[int, str]) -> str:
    """Write a partial as the call that it stands for, with the names that its module has for the arguments."""

    def short(value: Any) -> str:
        if isinstance(value, partial):
            return f"partial({', '.join([short(value.func), *arguments(value)])})"
        return spelled.get(id(value)) or getattr(value, "__name__", None) or reprlib.repr(value)

    def arguments(call: partial) -> list[str]:
        return [*map(short, call.args), *(f"{key}={short(value)}" for key, value in call.keywords.items())]

    if isinstance(build, partial):
        return f"{short(build.func)}({', '.join(arguments(build))})"
    return f"{short(build)}()"


def _statements(lines: Sequence[str]) -> dict[str, _Statement]:
    """Return the statement that gives each name of a module its value: a definition, an assignment or an import."""
    statements = {}
    end = 0
    for node in ast.parse("\n".join(lines)).body:
        first = next(number for number in range(end + 1, node.lineno + 1) if lines[number - 1])
        end = node.end_lineno
        names = frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        for bound in _bound(node):
            statements[bound] = _Statement(first, end, names)
    return statements


def _bound(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name for alias in node.names]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign():
            return [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        case _:
            return []


def _used(names: Sequence[str], statements: Mapping[str, _Statement]) -> list[_Statement]:
    """Return the statements of these names, and of all names in them, in the order of the file."""
    found, waiting = set(), {*names}
    while waiting:
        name = waiting.pop()
        if name in statements and name not in found:
            found.add(name)
            waiting |= statements[name].names
    return sorted({statements[name] for name in found}, key=lambda statement: statement.first)


def _ranges(statements: Sequence[_Statement], lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return the lines of statements; those with nothing but empty lines between them in one range."""
    ranges: list[tuple[int, int]] = []
    for statement in statements:
        if ranges and not any(lines[ranges[-1][1] : statement.first - 1]):
            ranges[-1] = (ranges[-1][0], statement.last)
        else:
            ranges.append((statement.first, statement.last))
    return ranges


# ---- the figure ------------------------------------------------------------------------------------------------------

_COLOURED = {
    **{Comment: "c", String: "s", Number: "m", Keyword: "k", Operator.Word: "k"},
    **{Name.Function: "d", Name.Class: "d", Name.Decorator: "a"},
}
"""What is coloured, and its class in ``source.css``; ``n``, ``p`` and ``w`` are those that the book takes away."""


def _figure(name: str, caption: str, text: str) -> Html:
    body = (
        f'<div class="cnn-scroll" tabindex="0" role="group" aria-label="Source of {escape(name)}">'
        f"<pre>{''.join(_highlighted(text))}</pre></div><figcaption>{escape(caption)}</figcaption>"
    )
    id = f"source-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}"
    return Html(figure(body, id=id, kind="cnn-source", css=asset("source.css")), text)


def _highlighted(text: str) -> Iterator[str]:
    for token, part in PythonLexer(stripnl=False).get_tokens(text):
        kind = next((name for kind, name in _COLOURED.items() if token in kind), None)
        yield f'<span class="{kind}">{escape(part)}</span>' if kind else escape(part)
