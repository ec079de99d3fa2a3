"""The reference of the package: all public names of a module, with what their docstrings say."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import operator
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, get_args

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc import Options
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode
from torch import nn

import cnnlib
from cnnlib import models

KINDS = {"Functions": "function", "Classes": "class", "Constants": "data", "Errors": "exception"}


def public(module: ModuleType) -> dict[str, Any]:
    """The public names of a module and what they stand for; modules among them are left out."""
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    values = {name: getattr(module, name) for name in names if not name.startswith("__")}
    return {name: value for name, value in values.items() if not inspect.ismodule(value) and name != "annotations"}


def kind(value: Any) -> str:
    """The heading under which a value stands."""
    if inspect.isclass(value):
        return "Errors" if issubclass(value, Exception | KeyboardInterrupt) else "Classes"
    return "Functions" if callable(value) else "Constants"


def comment(module: ModuleType, name: str) -> str:
    """What is said of a constant below its definition, in whichever file of the package that is."""
    for info in pkgutil.iter_modules(module.__path__):
        file = f"{module.__name__}.{info.name}"
        analyzer = ModuleAnalyzer.for_file(find_spec(file).origin, file)  # not imported: one needs Triton
        analyzer.analyze()
        if ("", name) in analyzer.attr_docs:
            return " ".join(analyzer.attr_docs["", name]).strip()
    return ""


def first_sentence(text: str) -> str:
    """The beginning of a docstring, without the roles that only reStructuredText knows."""
    sentence = text.partition(".\n")[0].partition(". ")[0].removesuffix(".")
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", sentence.replace("``", "`")) + "."


def entry(module: ModuleType, name: str, value: Any) -> str:
    """The reStructuredText that documents one name."""
    what = KINDS[kind(value)]
    if what == "data":
        of = " | ".join(part.__name__ for part in get_args(value)) or type(value).__name__
        return f".. py:data:: {name}\n   :type: {of}\n\n   {comment(module, name)}\n"
    members = "\n   :members:" if what == "class" else ""
    return f".. auto{what}:: {module.__name__}.{name}{members}\n"


def networks() -> list[ModuleType]:
    """The files of ``cnnlib.models`` that define networks, oldest first."""
    others = ("cli", "layers", "registry")  # the first is there only if something has imported it
    files = [value for name, value in sorted(vars(models).items()) if inspect.ismodule(value) and name not in others]
    return sorted(files, key=year)


def year(module: ModuleType) -> int:
    """The first year that a file of networks names: that of its paper."""
    return int(re.search(r"\b(?:19|20)\d\d\b", module.__doc__)[0])


class Reference(SphinxDirective):
    """All public names of a module, under the headings of their kinds."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        self.env.note_dependency(module.__file__)
        intro = self.rst(f".. automodule:: {module.__name__}")
        return [*intro, *self.sections(module)]

    def sections(self, module: ModuleType) -> Iterator[nodes.section]:
        names = public(module)
        for heading in KINDS:
            entries = [entry(module, name, value) for name, value in names.items() if kind(value) == heading]
            if entries:
                yield self.section(heading, "\n".join(entries))

    def rst(self, text: str) -> list[nodes.Node]:
        return self.parse_text_to_nodes(f"````{{eval-rst}}\n{text}\n````")

    def section(self, title: str, text: str) -> nodes.section:
        """Parsed text under a heading of its own."""
        section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(title)], names=[title.lower()])
        self.state.document.note_implicit_target(section)
        section += self.rst(text)
        return section


class Names(Reference):
    """The names of the package itself: what each is, with a link to its entry."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(cnnlib.__file__)
        rows = ["| Name | What it is |", "|---|---|"]
        for name, value in public(cnnlib).items():
            home = f"{cnnlib._HOME[name]}.{name}" if name in cnnlib._HOME else f"cnnlib.settings.{name}"
            said = comment(sys.modules[cnnlib._HOME[name]], name) if kind(value) == "Constants" else value.__doc__
            rows.append(f"| {{py:obj}}`cnnlib.{name} <{home}>` | {first_sentence(said)} |")
        return self.parse_text_to_nodes("\n".join(rows))


class Networks(Reference):
    """The files of ``cnnlib.models`` with networks of these years, each under the name that its docstring gives."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(models.__file__)
        first, last = map(int, self.arguments)
        return [
            self.section(inspect.getdoc(module).partition(".")[0], f".. automodule:: {module.__name__}\n   :members:")
            for module in networks()
            if first <= year(module) <= last
        ]


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element) -> nodes.Element | None:
    """Find what a docstring or signature refers to by another name than that of its entry.

    That is a link if it has an entry. A name without one that exists, in this package or in another such as PyTorch,
    is left as it is: so only a reference to something that does not exist is a warning.
    """
    if node.get("refdomain") != "py":
        return None
    value = find(node["reftarget"], node.get("py:module"), node.get("py:class"))
    if value is None:
        return None
    full = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if full not in env.domains["py"].objects:
        return contnode
    found = env.domains["py"].objects[full]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, full)


def find(target: str, module: str | None, within: str | None) -> Any:
    """What a name means in a class or module, in Python, in any file of the package, or in full; None if nothing."""
    files = sorted(name for name in sys.modules if name.startswith("cnnlib."))
    for scope in filter(None, (module, "builtins", *files)):
        for name in (f"{within}.{target}", target) if within else (target,):
            with contextlib.suppress(AttributeError, KeyError):
                return operator.attrgetter(name)(sys.modules[scope])
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        return pkgutil.resolve_name(target)
    return None


def shorten(
    app: Sphinx, what: str, name: str, value: Any, options: Options, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leave types out of the signatures of networks, for they are three quarters of a heavy page.

    In the others, a default that a field of a dataclass makes anew is written as dots, as it is no Python.
    """
    if signature and name.startswith(tuple(f"{module.__name__}." for module in networks())):
        takes_nothing = inspect.isclass(value) and value.__init__ is nn.Module.__init__
        return "()" if takes_nothing else stringify_signature(inspect.signature(value), show_annotation=False), ""
    return signature and signature.replace("<factory>", "..."), returns


def own_module(app: Sphinx, module: str, name: str) -> str | None:
    """Return the module in which to look for the source of a name, or None for the one that it says it is of.

    An alias such as ``tuple[int, int]`` says that it is a builtin, whose source no page shows.
    """
    return module if getattr(find(name, module, None), "__module__", None) == "builtins" else None


LINES = re.compile(r'<dl>\s*((?:<dd>.*?</dd>\s*)+)</dl>\s*(?=<span class="sig-paren">)', re.DOTALL)
"""The parameters of a long signature, one a line."""


def mend_signatures(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Make the lines of long signatures blocks: Sphinx writes definitions without anything that is defined."""
    if "body" in context:
        context["body"] = LINES.sub(
            lambda lines: re.sub("(</?)dd>", r"\1span>", f'<span class="sig-lines">{lines[1]}</span>'), context["body"]
        )


def setup(app: Sphinx) -> None:
    app.add_directive("reference", Reference)
    app.add_directive("names", Names)
    app.add_directive("networks", Networks)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("viewcode-follow-imported", own_module)
    app.connect("html-page-context", mend_signatures)
