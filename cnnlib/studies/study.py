"""A study is data: which networks are trained how, and what each budget means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.models import Published
from cnnlib.studies.errors import StudyError
from cnnlib.training import Recipe


@dataclass(frozen=True)
class Arm:
    """One of the things compared: a registered model, what is changed in it, and how it is trained.

    ``overrides`` are values of JSON; ``"nn.Tanh"`` stands for the class of torch.nn. ``published`` is what a paper
    reports for this arm, if the model's card does not say it. ``precision`` is that of :func:`cnnlib.fit`, if it is
    what is compared, or must be the same everywhere.
    """

    model: str
    recipe: Recipe
    overrides: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Scale:
    """What a budget means for a study: how long, how often, and on how much.

    Attributes:
        steps: length of each training; or else
        epochs: likewise; if neither is given, the recipe's own length.
        seeds: one training each.
        images: use only so many training and test images (for tests); None uses all.
        batch_size: likewise, images a step instead of the recipe's.
        log_every: steps between points of the learning curve instead of the study's: long trainings need fewer.
    """

    steps: int | None = None
    epochs: float | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int | None = None
    batch_size: int | None = None
    log_every: int | None = None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe of this length and of unchanged shape."""
        if self.batch_size is not None:
            recipe = recipe.replace(batch_size=self.batch_size)
        if self.steps is None and self.epochs is None:
            return recipe
        return recipe.limited(steps=self.steps, epochs=self.epochs)


SMOKE = Scale(steps=2, seeds=(0,), images=64, batch_size=16)
"""Real trainings of a second each, for tests."""


@dataclass(frozen=True)
class Study:
    """An experiment.

    Attributes:
        name: of its folder of records and on the command line.
        question: what it asks, in one sentence.
        arms: what is compared, by label.
        budgets: what smoke, short, medium and full mean for it.
        data: the data set, as :func:`cnnlib.load_data` names it.
        subset: train on a fixed, class-balanced subset of so many images; None trains on all.
        log_every: steps between points of the learning curve.
        evaluate_every: epochs between evaluations on the test set.
        ensemble: the arm whose networks are also averaged into an ensemble, if any.
        mixed: arms whose networks are averaged with each other, pair by pair (:mod:`cnnlib.studies.mixtures`).
        equal_time: an arm, if any. Each of the others trains so many steps as take it as long as this one, by the
            speeds that are measured on the machine before the first training (:mod:`cnnlib.studies.equal_time`).
        probe: ``probe(network, images)`` measures something else, in values of JSON, on the network before and after
            the training; it must leave the network as it is.
    """

    name: str
    question: str
    arms: Mapping[str, Arm]
    budgets: Mapping[str, Scale]
    data: str = "cifar10"
    subset: int | None = None
    log_every: int | None = None
    evaluate_every: int = 1
    ensemble: str | None = None
    mixed: tuple[str, ...] = ()
    equal_time: str | None = None
    probe: Callable[[nn.Module, ImageSet], Any] | None = None

    @property
    def data_name(self) -> str:
        """The data set as it is printed, such as ``"CIFAR-10"``."""
        return self.data.upper().replace("CIFAR", "CIFAR-")

    @property
    def averaged(self) -> tuple[str, ...]:
        """The labels of the arms whose networks are averaged, in an ensemble or in mixtures."""
        return tuple(filter(None, (self.ensemble, *self.mixed)))

    def scale(self, budget: str | None = None) -> Scale:
        """Return what a budget means here; None is the budget in force.

        Raises:
            StudyError: if the study does not know the budget.
        """
        budget = settings.budget(budget)
        if budget not in self.budgets:
            raise StudyError(f"the study {self.name!r} has no {budget} budget; it has {', '.join(self.budgets)}")
        return self.budgets[budget]

    def arm(self, label: str) -> Arm:
        """Return the arm with this label.

        Raises:
            StudyError: if there is none.
        """
        if label not in self.arms:
            raise StudyError(f"the study {self.name!r} has no arm {label!r}; it has {', '.join(self.arms)}")
        return self.arms[label]

    def train_images(self, scale: Scale) -> int | None:
        """Return the number of images trained on, or None for all that there are."""
        return min(filter(None, (self.subset, scale.images)), default=None)

    def images(self, data: ImageSet, scale: Scale) -> ImageSet:
        """Return the images that this study trains and tests on."""
        count = self.train_images(scale)
        return data if count is None else data.subset(count, test=scale.images)


STUDIES: dict[str, Study] = {}
"""The book's studies by name."""


def register(study: Study) -> Study:
    """Make a study known to :func:`find_study`, and return it."""
    STUDIES[study.name] = study
    return study


def course_study(
    name: str, question: str, arms: Mapping[str, Arm], *, short: int | None, medium: float = 20, **more: Any
) -> Study:
    """Register a study with the course's budgets, and return it.

    ``short`` is the number of steps on a laptop, so many that its slowest arm takes three minutes; None if no number
    would be enough. ``medium`` is the number of epochs on a GPU, ``full`` is the length of the recipes. ``more`` are
    other fields.
    """
    scales = {
        "smoke": SMOKE,
        "short": short and Scale(steps=short),
        "medium": Scale(epochs=medium, log_every=100),
        "full": Scale(log_every=500),
    }
    budgets = {budget: scale for budget, scale in scales.items() if scale}
    return register(Study(name, question, arms, budgets, **{"log_every": 10, "evaluate_every": 10} | more))


def find_study(name: str) -> Study:
    """Return the study of this name.

    Raises:
        StudyError: if there is none.
    """
    if name not in STUDIES:
        raise StudyError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]


def require_study(function: str, study: object) -> None:
    """Check what a function was given for a study.

    Raises:
        StudyError: if it is none, such as the name of one.
    """
    if not isinstance(study, Study):
        raise StudyError(f"{function} needs a study, not {study!r}; find_study(name) returns one")


def require_sequences(seeds: Sequence[int] | None, arms: Sequence[str] | None) -> None:
    """Check that what may be several is not one by itself, nor none.

    Raises:
        StudyError: if it is.
    """
    for what, given in (("seeds", seeds), ("arms", arms)):
        if given is not None and (isinstance(given, str) or not isinstance(given, Collection)):
            written = f"list({given!r})" if isinstance(given, Iterator) else f"[{given!r}]"
            raise StudyError(f"seeds and arms are sequences, even of one: {what}={written}")
    for what, given in (("seed", seeds), ("arm", arms)):
        if given is not None and not len(given):
            raise StudyError(f"give at least one {what}, or leave {what}s out for all that there are")
