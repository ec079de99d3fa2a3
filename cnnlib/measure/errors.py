"""What can go wrong when a network is measured. Every message says what was wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from cnnlib.errors import CnnlibError


class BadArgument(CnnlibError, ValueError):
    """An argument has no meaning here: a stride of 0, an unknown optimiser."""


class NotTraceable(CnnlibError, ValueError):
    """``torch.fx`` cannot write this network down as a graph."""


class UnsupportedOperation(CnnlibError, NotImplementedError):
    """The graph holds an operation for which no rule says which inputs its outputs see."""


class UnknownLayer(CnnlibError, LookupError):
    """The network has no layer of this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(dict.fromkeys(known))
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or known[:3]
        advice = f"the nearest names are {', '.join(map(repr, near))}" if near else "here no layer has a name"
        super().__init__(f"no layer {name!r}; {advice}")
