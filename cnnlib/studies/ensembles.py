"""Several networks averaged: the mean of their probabilities against each of them alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnlib.data import ImageSet
from cnnlib.files import read_json, write_json
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.statistics import summarise
from cnnlib.table import Column, Table
from cnnlib.training import Run, predict
from cnnlib.training.recipe import WORDS
from cnnlib.training.run import title


@dataclass(frozen=True, repr=False)
class Ensemble:
    """Test error in percent of the averaged ``probabilities`` of several networks, and of each network alone."""

    model: str
    overrides: dict[str, object]
    recipe: str
    data: str
    stands_in_for: str | None
    budget: str | None
    seeds: tuple[int, ...]
    alone: tuple[float, ...]
    error: float
    images: int

    @property
    def networks(self) -> dict[int, float]:
        """The errors of those that are averaged, by their seeds."""
        return dict(zip(self.seeds, self.alone, strict=True))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON and return where it lies."""
        return write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Ensemble:
        """Read a saved one.

        Raises:
            RecordError: if the file holds none.
        """
        try:
            values = read_json(path)
            found = cls(**values | {"seeds": tuple(values["seeds"]), "alone": tuple(values["alone"])})
            found.networks  # noqa: B018  (which fails if they are not as many as their errors)
            str(found)  # which fails if a value is of another kind
            return found
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StudyError) as error:
            raise RecordError(
                f"{path} holds no ensemble ({error}); delete it if it is there, and run the study with all seeds"
            ) from error

    def table(self) -> Table:
        """Return each network's error and the ensemble's as a table."""
        each = summarise(self.alone)
        return Table(
            caption=f"{title(self.model, self.overrides, self.data, self.stands_in_for)}, {self.images:,} test images",
            columns=(Column("", numeric=False), Column("test error", "%")),
            rows=(
                *((f"seed {seed}", f"{error:.2f}") for seed, error in zip(self.seeds, self.alone, strict=True)),
                (f"mean ± standard deviation of the {len(self.seeds)}", str(each)),
                (f"the {len(self.seeds)} averaged", f"{self.error:.2f}"),
            ),
            notes=(f"Each trained with {self.recipe}.",),
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def ensemble(runs: Sequence[Run], data: ImageSet) -> Ensemble:
    """Average the softmax outputs of trained networks over the test images.

    Args:
        runs: finished in this session, so that they still have their networks; same model and recipe, other seeds.
        data: the set they were trained on.

    Raises:
        StudyError: if there are fewer than two, one has no network, or they differ in more than the seed, or not in
            the seed, or were trained on other data.
    """
    if len(runs) < 2:
        raise StudyError(f"an ensemble needs at least two networks, and there are {len(runs)}")
    require_networks(runs)
    first = runs[0]
    for what, wanted in _common(first).items():
        if any(_common(run)[what] != wanted for run in runs):
            raise StudyError(f"networks of an ensemble must differ in the seed alone, and these differ in {what}")
    require_distinct(run.seed for run in runs)
    require_data((run.data for run in runs), data)
    outputs = torch.stack([predict(run.module, data.test_images, data).softmax(1).cpu() for run in runs])
    labels = data.test_labels.cpu()
    return Ensemble(
        model=first.model,
        overrides=first.overrides,
        recipe=str(first.recipe),
        data=data.name,
        stands_in_for=data.stands_in_for,
        budget=first.budget,
        seeds=tuple(run.seed for run in runs),
        alone=tuple(percent(output.argmax(1) != labels) for output in outputs),
        error=percent(outputs.mean(0).argmax(1) != labels),
        images=len(labels),
    )


def _common(run: Run) -> dict[str, object]:
    """Return what the runs of an ensemble share; what is only said about the recipe may have been reworded."""
    recipe = {key: value for key, value in run.recipe.as_dict().items() if key not in WORDS}
    same = ("model", "overrides", "data", "train_images", "budget")
    return {name: getattr(run, name) for name in same} | {"recipe": recipe}


def ensemble_name(arm: str, budget: str | None, stand_in: str | None = None) -> str:
    """Return the name of an ensemble's file: budget and arm, and the data set if it is a stand-in."""
    return f"{budget}-{arm}-ensemble{f'-{stand_in.lower()}' if stand_in else ''}.json"


def require_networks(runs: Iterable[Run]) -> None:
    """Check that runs still have their networks.

    Raises:
        StudyError: if one has none.
    """
    runs = [*runs]
    if wrong := [run for run in runs if not hasattr(run, "module")]:
        raise StudyError(f"networks come with runs, as record.run is one, not with a {type(wrong[0]).__name__}")
    if any(run.module is None for run in runs):
        raise StudyError("a run read from a file has no network: train it in this session, or keep its checkpoint")


def require_distinct(networks: Iterable[object]) -> None:
    """Keep one network, given by its seed or by arm and seed, from counting as several.

    Raises:
        StudyError: naming one that is there more than once.
    """
    number, times = Counter(networks).most_common(1)[0]
    if times > 1:
        raise StudyError(f"networks that are averaged must differ, and {number!r} is there {times} times")


def require_data(names: Iterable[str], data: ImageSet) -> None:
    """Check that networks were trained on ``data``; ``names`` are those of the sets that they were trained on.

    Raises:
        StudyError: if one was trained on another set.
    """
    if len(every := {*names, data.name}) > 1:
        raise StudyError(f"networks trained on different data cannot be averaged: {', '.join(sorted(every))}")


def percent(wrong: torch.Tensor) -> float:
    """Return the share of True, in percent."""
    return 100 * wrong.double().mean().item()
