"""A training recipe is data: the papers' recipes by name, and how to shorten one without changing its shape."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib.errors import require_whole
from cnnlib.training.errors import RecipeError

PADDINGS = ("mean", "reflect")
WORDS = ("source", "deviations", "full_length")
"""The fields of a recipe that say something about it. No number depends on them, so they may be reworded."""

_KINDS = {
    "str": (str, str, "a text"),
    "bool": (bool | np.bool_, bool, "True or False"),
    "int": (numbers.Integral, int, "a positive whole number"),
    "float": (numbers.Real, float, "a number"),
}
"""What each kind of field takes, what makes it one of Python's own, and what it is called."""


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with momentum, weight decay on all parameters and a stepwise learning rate.

    Schedules are stored as fractions of the run, so that a shorter run keeps the published shape. Each epoch visits
    the training images in a new order and leaves out the incomplete last batch: 50,000 images at batch size 128 are
    390 steps.

    Attributes:
        name: as in :data:`RECIPES`; :meth:`replace` adds what was changed.
        batch_size: images a step.
        lr: learning rate after the warm-up and before the first milestone.
        epochs: length in passes over the training set; or else
        iterations: length in steps. Exactly one of the two is set.
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: L2 penalty, as a factor of the weights added to the gradient.
        milestones: fractions of the run after which the learning rate is multiplied by ``gamma``.
        gamma: see ``milestones``.
        warmup: fraction of the run, at its start, that is spent at ``warmup_lr``.
        warmup_lr: see ``warmup``.
        augment: whether to pad by 4, crop at random and flip at random; of images in files, whether to crop a part of
            random size and shape and flip at random.
        padding: ``"mean"`` pads with the mean colour (zero after normalisation), ``"reflect"`` by reflection.
        source: where the recipe was published.
        deviations: what differs from the published one.
        full_length: set by :meth:`limited`: the length before.

    Raises:
        RecipeError: if a value makes no sense.
    """

    name: str
    batch_size: int
    lr: float
    epochs: float | None = None
    iterations: int | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_lr: float = 0.0
    augment: bool = True
    padding: str = "mean"
    source: str = ""
    deviations: str = ""
    full_length: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (value is None and field.type.endswith("| None")):
                object.__setattr__(self, field.name, self._plain(field.name, field.type.removesuffix(" | None"), value))
        rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        for holds, problem in (
            ((self.epochs is None) != (self.iterations is None), "exactly one of epochs and iterations must be given"),
            (
                self.epochs is None or 0 < self.epochs < math.inf,
                f"epochs must be positive and finite, not {self.epochs}",
            ),
            (
                self.iterations is None or self.iterations > 0,
                f"iterations must be a positive whole number, not {self.iterations}",
            ),
            (self.batch_size > 0, f"batch_size must be a positive whole number, not {self.batch_size}"),
            (0 < self.lr < math.inf, f"lr must be positive and finite, not {self.lr}"),
            (0 <= self.momentum < 1, f"momentum must lie in [0, 1), not {self.momentum}"),
            (not self.nesterov or self.momentum > 0, "Nesterov momentum needs a momentum above 0"),
            (
                0 <= self.weight_decay < math.inf,
                f"weight_decay must not be negative, and finite, not {self.weight_decay}",
            ),
            (
                rising and all(0 < m < 1 for m in self.milestones),
                f"milestones must be rising fractions of the run between 0 and 1, not {self.milestones}",
            ),
            (0 < self.gamma <= 1, f"gamma must lie in (0, 1], not {self.gamma}"),
            (0 <= self.warmup < 1, f"warmup must be a fraction of the run in [0, 1), not {self.warmup}"),
            (
                self.warmup == 0 or 0 < self.warmup_lr < math.inf,
                f"a warm-up needs a positive warmup_lr, not {self.warmup_lr}",
            ),
            (self.padding in PADDINGS, f"padding must be one of {', '.join(PADDINGS)}, not {self.padding!r}"),
        ):
            if not holds:
                raise RecipeError(f"recipe {self.name!r}: {problem}")

    def _plain(self, name: str, kind: str, value: Any) -> Any:
        """Return the value of a field as JSON can hold it: NumPy's numbers become Python's."""
        if kind == "tuple[float, ...]":
            if not isinstance(value, Iterable) or isinstance(value, str):
                raise RecipeError(f"recipe {self.name!r}: {name} must be several numbers, not {value!r}")
            return tuple(self._plain(f"each of {name}", "float", part) for part in value)
        accepted, convert, words = _KINDS[kind]
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
            raise RecipeError(f"recipe {self.name!r}: {name} must be {words}, not {value!r}")
        return value if type(value) in (bool, int, float, str) else convert(value)

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with other values. Its name says what was changed, so that it never passes for the original.

        Raises:
            RecipeError: if there is no such value, or it makes no sense.
        """
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise RecipeError(f"a recipe has no {' or '.join(sorted(unknown))}; see help(cnnlib.Recipe)")
        changed = dataclasses.replace(self, **changes)
        values = {key: getattr(changed, key) for key in changes if key not in WORDS}
        telling = [f"{key}={value}" for key, value in values.items() if value != getattr(self, key)]
        if telling and "name" not in changes:
            return dataclasses.replace(changed, name=", ".join([self.name, *telling]))
        return changed

    @property
    def origin(self) -> Recipe | None:
        """The recipe of :data:`RECIPES` that this is, or that :meth:`replace` made it of; None if there is none."""
        return RECIPES.get(self.name.partition(", ")[0])

    def limited(self, *, steps: int | None = None, epochs: float | None = None) -> Recipe:
        """Return the same recipe run for so many ``steps``, or ``epochs``: the schedule keeps its shape.

        Raises:
            RecipeError: if not exactly one length is given, or it is not positive.
        """
        if (steps is None) == (epochs is None):
            raise RecipeError("give exactly one of steps and epochs")
        if steps is not None:
            require_whole(RecipeError, 1, steps=steps)
        length = f"{self.iterations:,} steps" if self.iterations else f"{self.epochs:g} epochs"
        return dataclasses.replace(self, iterations=steps, epochs=epochs, full_length=self.full_length or length)

    def steps_per_epoch(self, images: int) -> int:
        """Return the number of full batches in a training set of this many images.

        Raises:
            RecipeError: if there is none.
        """
        if images < self.batch_size:
            raise RecipeError(
                f"a batch of {self.batch_size} needs at least as many training images, and there are {images} "
                f"(--batch-size {max(images, 1)} at most); use a smaller one, batch_size={max(images, 1)}"
            )
        return images // self.batch_size

    def steps(self, images: int) -> int:
        """Return the number of steps of the whole run on a training set of this many images."""
        per_epoch = self.steps_per_epoch(images)
        return self.iterations if self.iterations else max(1, round(self.epochs * per_epoch))

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step ``step`` (the first is 0) in a run of ``steps``."""
        if step < round(self.warmup * steps):
            return self.warmup_lr
        return self.lr * self.gamma ** sum(step >= round(milestone * steps) for milestone in self.milestones)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as a dictionary for JSON."""
        return dataclasses.asdict(self) | {"milestones": list(self.milestones)}

    def __str__(self) -> str:
        if self.iterations:
            length = "1 step" if self.iterations == 1 else f"{self.iterations:,} steps"
        else:
            length = f"{self.epochs:g} epoch{'' if self.epochs == 1 else 's'}"
        if self.full_length:
            length += f" (full length: {self.full_length})"
        return f"{self.name}, {length}, batch {self.batch_size}"


NONE_HELD_BACK = "no training images held back for validation, where the paper holds back 5,000"
_RESNET = Recipe(
    name="resnet-cifar",
    iterations=64_000,
    batch_size=128,
    lr=0.1,
    weight_decay=1e-4,
    milestones=(0.5, 0.75),
    source="He et al. 2015 (arXiv 1512.03385), section 4.2",
    deviations=(
        f"{NONE_HELD_BACK}; the mean of each channel subtracted and divided by its standard deviation instead of the "
        "mean of each pixel; batch statistics over 128 images instead of 64 on each of two GPUs"
    ),
)

_WHOLE_BATCHES = "the last images of an epoch, which fill no batch, are left out"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="alexnet",
            epochs=90,
            batch_size=128,
            lr=0.01,
            weight_decay=5e-4,
            milestones=(0.25, 0.5, 0.75),
            source="Krizhevsky et al. 2012, section 5",
            deviations=(
                "the paper divides the learning rate by 10 by hand, three times, whenever the validation error stops "
                "falling; here at a quarter, half and three quarters of the run. On 32x32 images: 4 pixels of padding "
                "and crops of the same size, no change of colours"
            ),
        ),
        _RESNET,
        dataclasses.replace(
            _RESNET,
            name="resnet110-cifar",
            warmup=400 / 64_000,
            warmup_lr=0.01,
            deviations=f"400 steps of warm-up, not until the training error is below 80 %; {_RESNET.deviations}",
        ),
        Recipe(
            name="resnet-imagenet",
            epochs=90,
            batch_size=256,
            lr=0.1,
            weight_decay=1e-4,
            milestones=(1 / 3, 2 / 3),
            source="He et al. 2015 (arXiv 1512.03385), section 3.4",
            deviations=(
                "90 epochs with the learning rate divided after 30 and 60 (Gross & Wilber 2016), not 600,000 steps "
                "with divisions whenever the error stops falling; crops of 8 to 100 % of the area, not from images of "
                "which the shorter side is scaled to 256 to 480 pixels; no change of colours; the mean of each "
                "channel, not of each pixel; one central crop in the test"
            ),
        ),
        Recipe(
            name="wrn",
            epochs=200,
            batch_size=128,
            lr=0.1,
            nesterov=True,
            weight_decay=5e-4,
            milestones=(0.3, 0.6, 0.8),
            gamma=0.2,
            padding="reflect",
            source="Zagoruyko & Komodakis 2016 (arXiv 1605.07146), section 3",
            deviations=_WHOLE_BATCHES,
        ),
        Recipe(
            name="resnext",
            epochs=300,
            batch_size=128,
            lr=0.1,
            nesterov=True,
            weight_decay=5e-4,
            milestones=(0.5, 0.75),
            source="Xie et al. 2016 (arXiv 1611.05431), section 5.3, and github.com/facebookresearch/ResNeXt",
            deviations=(
                "batches of 128 and original blocks, which the authors' repository recommends; it says that the "
                f"published errors came from pre-activated blocks and batches of 256. Besides, {_WHOLE_BATCHES}"
            ),
        ),
        Recipe(
            name="stochastic-depth",
            epochs=500,
            batch_size=128,
            lr=0.1,
            nesterov=True,
            weight_decay=1e-4,
            milestones=(0.5, 0.75),
            source="Huang et al. 2016 (arXiv 1603.09382), section 4",
            deviations=NONE_HELD_BACK,
        ),
        Recipe(
            name="densenet",
            epochs=300,
            batch_size=64,
            lr=0.1,
            nesterov=True,
            weight_decay=1e-4,
            milestones=(0.5, 0.75),
            source="Huang et al. 2017 (arXiv 1608.06993), section 4.2",
            deviations=_WHOLE_BATCHES,
        ),
    )
}
"""The papers' recipes by name. What changes a recipe (larger batches, one cycle, label smoothing) is not among them."""

_RECIPE_OF = (
    ("stochastic-depth*", "stochastic-depth"),
    ("*wrn*", "wrn"),
    ("*res*next*", "resnext"),
    ("*resnet110*", "resnet110-cifar"),
    ("*preact110*", "resnet110-cifar"),
    ("plain110", "resnet110-cifar"),
    ("*resnet*", "resnet-cifar"),
    ("*preact*", "resnet-cifar"),
    ("plain*", "resnet-cifar"),
    ("densenet*", "densenet"),
)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        RecipeError: if there is none.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def recipe_for(model: str) -> Recipe:
    """Return the recipe that the paper of this model used, or AlexNet's where none is known."""
    return RECIPES[next((recipe for pattern, recipe in _RECIPE_OF if fnmatch.fnmatch(model, pattern)), "alexnet")]
