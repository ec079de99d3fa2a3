"""The names that :func:`create` knows, and what is known about each: the data from which all tables are made."""

from __future__ import annotations

import difflib
import inspect
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnlib.errors import CnnlibError, first_line
from cnnlib.spelling import plain


class UnknownModel(CnnlibError, LookupError):
    """No model has this name. The message gives the nearest names."""


class BadOption(CnnlibError, ValueError):
    """A model has no such option, or the option cannot have this value."""


@dataclass(frozen=True)
class Paper:
    """The paper that introduces an architecture.

    ``key`` is its entry in the book's bibliography, ``year`` that of its first version, ``arxiv`` its arXiv number.
    """

    key: str
    title: str
    authors: str
    year: int
    arxiv: str | None = None


@dataclass(frozen=True)
class Published:
    """One published error, as its source prints it, but for zeros at its end; of a printed accuracy, 100 minus that.

    ``value`` is in percent; ``std`` is the spread over trainings that the source prints with it, a standard deviation
    as far as it says; ``protocol`` says over how many, if the source does. ``networks`` is the number of networks whose
    predictions were averaged: one, unless it is an ensemble.
    """

    metric: str
    value: float
    protocol: str
    source: str
    dataset: str = "ImageNet"
    std: float | None = None
    networks: int = 1

    def __str__(self) -> str:
        return self.beside(None)

    def beside(self, dataset: str | None) -> str:
        """Return it in words, beside something that names ``dataset``: the data set is said if it is another one."""
        spread = "" if self.std is None else f" ± {self.std:g}"
        where = "" if self.dataset == dataset else f" on {self.dataset}"
        return f"{self.value:g}{spread} % {self.metric}{where} ({self.protocol})"


def top_errors(errors: Mapping[tuple[str, str], Sequence[float]], **more: Any) -> list[Published]:
    """Return published errors, given by protocol and source: the top-1 error and, where known, the top-5 error.

    ``more`` are other fields of :class:`Published`, the same for all.
    """
    return [
        Published(metric, value, protocol, source, **more)
        for (protocol, source), values in errors.items()
        for metric, value in zip(("top-1 error", "top-5 error"), values, strict=False)
    ]


def cifar_errors(errors: Mapping[tuple[str, str], Sequence[float]]) -> list[Published]:
    """Return published test errors, given in the same way: that on CIFAR-10 and, where known, that on CIFAR-100."""
    return [
        Published("test error", value, protocol, source, dataset)
        for (protocol, source), values in errors.items()
        for value, dataset in zip(values, ("CIFAR-10", "CIFAR-100"), strict=False)
    ]


def torchvision_v1(weights: str, protocol: str = "1 crop, validation") -> tuple[str, str]:
    """Return protocol and source of the errors that torchvision gives for its first ``weights``, ``"VGG16"`` say."""
    return protocol, f"torchvision, {weights}_Weights.IMAGENET1K_V1"


TORCHVISION_LATER = "later recipe, scaled to 232 pixels, 1 crop, validation"
"""Protocol of those of torchvision's first weights that it trained by the recipe of its second ones."""


HU_RERUN = ("rerun, 1 crop, validation", "Hu et al. 2018, Table 2")
"""Protocol and source of the nets that the paper on squeeze and excitation trained again without it."""


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model before it is built.

    ``input_size`` is the paper's (channels, height, width), ``parameters`` the exact number of trainable ones,
    ``multiply_adds`` that of all convolutions and linear layers for one image of this size in evaluation mode: without
    auxiliary heads, which ``parameters`` counts. ``published`` begins with the number that stands for the model in a
    table.
    """

    name: str
    build: Callable[..., nn.Module]
    paper: Paper
    family: str
    dataset: str
    input_size: tuple[int, int, int]
    parameters: int
    multiply_adds: int | None
    published: tuple[Published, ...]
    about: str

    @property
    def headline(self) -> Published | None:
        """The first published error of a single network, or None if there is none."""
        return next((error for error in self.published if error.networks == 1), None)

    @property
    def options(self) -> dict[str, Any]:
        """The options that :func:`create` takes for this model, with their defaults."""
        return {name: option.default for name, option in inspect.signature(self.build).parameters.items()}

    def __str__(self) -> str:
        cost = "" if self.multiply_adds is None else f", {self.multiply_adds:,} multiply-adds"
        lines = [
            f"{self.name}: {self.about}",
            f"  {self.paper.authors} {self.paper.year}. {self.paper.title}.",
            f"  {self.dataset}, input {'x'.join(map(str, self.input_size))}: {self.parameters:,} parameters{cost}",
            *(f"  {error.beside(self.dataset)}: {error.source}" for error in self.published),
        ]
        return "\n".join(lines)


_CARDS: dict[str, ModelCard] = {}


def register(
    name: str,
    build: Callable[..., nn.Module],
    *,
    paper: Paper,
    input_size: tuple[int, int, int],
    parameters: int,
    multiply_adds: int | None = None,
    published: Sequence[Published] = (),
    about: str = "",
    dataset: str = "ImageNet",
    family: str | None = None,
) -> None:
    """Make ``name`` known to :func:`create`.

    ``build`` is a class or function whose parameters are all optional and are the model's options. ``family`` is the
    name's leading word unless given. The other arguments are the fields of :class:`ModelCard`.

    Raises:
        BadOption: if the name is taken, or has what :func:`create` does not tell apart, or ``build`` makes nothing.
    """
    if not (isinstance(name, str) and re.match(r"[a-z]", name) and name == _normal(name)):
        raise BadOption(f"a model's name begins with a small letter and has neither capitals nor _, unlike {name!r}")
    if not callable(build):
        raise BadOption(f"build must be a class or function that makes the network, not {build!r}")
    if name in _CARDS:
        raise BadOption(f"two models are called {name!r}")
    family = family or re.match(r"[a-z]+", name)[0]
    _CARDS[name] = ModelCard(
        name, build, paper, family, dataset, input_size, parameters, multiply_adds, tuple(published), about
    )


_IMPOSSIBLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What Python and PyTorch raise where the value of an option makes no network."""


_KINDS = {
    bool: (bool | np.bool_, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a word"),
    tuple: (list | tuple, "a list"),
    type: (Callable, "a class, such as nn.Tanh"),
}
"""By the kind of an option's default: what its values are, and what they are called."""


def create(name: str, **overrides: Any) -> nn.Module:
    """Build the model called ``name`` with freshly drawn weights.

    ``overrides`` are options of the model, ``num_classes=100`` for instance; ``card(name).options`` lists them. A class
    of ``torch.nn`` may be given by its name, ``"nn.Tanh"``. The model maps images (N, C, H, W) to logits (N,
    num_classes), or to heatmaps (N, keypoints + 1, h, w) if ``keypoints`` is one of its options. With auxiliary heads
    it returns :class:`~cnnlib.models.layers.WithAuxiliary` in training mode. Its ``min_size`` is the height and width
    of the smallest image that it takes, in pixels; a smaller one raises :class:`~cnnlib.models.layers.InputTooSmall`.
    In training mode batch normalisation needs more than one number for each map, and so more than one image where maps
    of a single pixel are left. Case, and ``_`` for ``-``, do not matter in a name.

    Raises:
        UnknownModel: if there is no such name.
        BadOption: if the model has no such option, or the value is not possible: it is of another kind than the
            default, raises an error, or leaves a layer without weights.
    """
    model = card(name)
    if unknown := overrides.keys() - model.options.keys():
        allowed = _spelled(model.options) or "none"
        raise BadOption(f"{model.name} has no option {', '.join(sorted(unknown))}; it takes {allowed}")
    if not overrides:
        return model.build()  # an error would be the model's own
    values = {option: _torch_class(value) for option, value in overrides.items()}
    try:
        net = model.build(**values)
        if wrong := _wrong_kind(model, values):  # which builds a network all the same: "False" is true
            raise TypeError(wrong)
    except (CnnlibError, torch.OutOfMemoryError):
        raise
    except _IMPOSSIBLE as error:
        reason = _wrong_kind(model, values) or first_line(error)
        raise BadOption(f"{model.name} cannot be built with {_spelled(overrides)}: {reason}") from error
    if empty := [name for name, values in net.named_parameters() if not is_lazy(values) and values.numel() == 0]:
        raise BadOption(f"{model.name} cannot be built with {_spelled(overrides)}: {empty[0]} would hold no numbers")
    return net


def _torch_class(value: Any) -> Any:
    """Return the class for ``"nn.Tanh"``, and anything else as it is.

    Raises:
        BadOption: if torch.nn has no such class.
    """
    if not (isinstance(value, str) and value.startswith("nn.")):
        return value
    if not hasattr(nn, value[3:]):
        raise BadOption(f"torch.nn has no {value[3:]!r}")
    return getattr(nn, value[3:])


def _wrong_kind(model: ModelCard, values: Mapping[str, Any]) -> str:
    """Say which value is of another kind than the option's default, if one is."""
    options = inspect.signature(model.build).parameters
    for option, value in values.items():
        if isinstance(value, list | tuple) and "Sequence" in str(options[option].annotation):
            continue  # such as survival, one number or several: the builder looks at each
        kind, words = _KINDS.get(type(options[option].default), (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (numbers.Integral, numbers.Real)):
            return f"{option} must be {words}"
    return ""


def card(name: str) -> ModelCard:
    """Return what is known about the model called ``name``.

    Raises:
        UnknownModel: if there is no such name.
    """
    if not isinstance(name, str):
        raise UnknownModel(f"a model's name is a string, not {name!r}")
    wanted = _normal(name)
    if wanted not in _CARDS:
        raise UnknownModel(f"there is no model {name!r}; {nearest(wanted)}")
    return _CARDS[wanted]


def available(
    pattern: str = "*", *, family: str | None = None, dataset: str | None = None, year: int | None = None
) -> list[str]:
    """Return the names that match ``pattern`` and all filters, oldest paper first.

    ``pattern`` has the wildcards of file names (``"alexnet*"``); without any it may stand anywhere in the name. A data
    set may be called ``"CIFAR-10"`` or ``"cifar10"``.
    """
    pattern = _normal(str(pattern))
    if not re.search(r"[*?\[]", pattern):
        pattern = f"*{pattern}*"
    cards = [
        model
        for model in sorted(_CARDS.values(), key=lambda model: model.paper.year)
        if fnmatchcase(model.name, pattern)
        and all(
            wanted is None or plain(known) == plain(str(wanted))
            for known, wanted in ((model.family, family), (model.dataset, dataset), (str(model.paper.year), year))
        )
    ]
    return [model.name for model in cards]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def nearest(name: str) -> str:
    """Say which names are like ``name``, as the second half of an error message: first those that begin with it."""
    wanted = _normal(name)
    begun = [known for known in _CARDS if wanted and known.startswith(wanted)]
    like = difflib.get_close_matches(wanted, _CARDS, n=3, cutoff=0.5)
    near = list(dict.fromkeys([*sorted(begun, key=len), *like]))[:3]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "cnnlib.available() lists them all, as does python -m cnnlib models"


def _spelled(options: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{option}={value.__name__ if inspect.isclass(value) else repr(value)}" for option, value in options.items()
    )
