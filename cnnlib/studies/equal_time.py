"""Trainings of equal time: how many steps each network takes while another one takes its own.

How long a step takes depends on the machine, so the speeds are measured there, once a study and budget, before the
first training. They are kept beside the records: a study that was broken off goes on with the same lengths.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.files import locked, read_json, user_path, write_json
from cnnlib.studies.errors import RecordError
from cnnlib.studies.record import SHIPPED
from cnnlib.studies.study import Arm, Scale, Study
from cnnlib.training import Recipe, fit
from cnnlib.training.errors import check_at_least

ROUNDS = 3
STEPS = {"cpu": 5, "cuda": 100}
"""Steps of one measurement, the first of which are not counted: one on a CPU, four on a GPU."""


def speeds(study: Study, scale: Scale, images: ImageSet) -> dict[str, float]:
    """Return the images a second at which each arm trains here: the median of some short trainings, taken in turns."""
    steps = STEPS.get(settings.device().type, 5)
    measured: dict[str, list[float]] = {label: [] for label in study.arms}
    for _ in range(ROUNDS):
        for label, arm in study.arms.items():
            recipe = scale.recipe(arm.recipe).limited(steps=steps)
            few = images.subset(min(len(images.train_labels), 10 * recipe.batch_size), test=64)
            run = fit((arm.model, dict(arm.overrides)), few, recipe, precision=arm.precision, progress=False)
            measured[label].append(run.images_per_second)
    return {label: statistics.median(values) for label, values in measured.items()}


def lengths(study: Study, scale: Scale, images: ImageSet, kept: str | Path | None = None) -> dict[str, int]:
    """Return the number of steps of each arm; ``kept`` is a file that holds them, or will.

    Raises:
        RecordError: if the file is damaged, or made for other arms or another length.
    """
    if kept is None:
        return _measured(study, scale, images)["steps"]
    path = Path(kept)
    with locked(path, wait=True):  # of several processes one measures, and all train by its numbers
        if not path.exists():
            write_json(path, _measured(study, scale, images))
        steps = load(study, path)["steps"]
    found, wanted = steps[study.equal_time], _reference(study, scale, images)
    if found != wanted:
        raise RecordError(f"{path} was made for {found:,} steps of {study.equal_time!r}, not {wanted:,}; delete it")
    return steps


def _reference(study: Study, scale: Scale, images: ImageSet) -> int:
    """Return the number of steps of the arm whose length is given."""
    return scale.recipe(study.arm(study.equal_time).recipe).steps(len(images.train_labels))


def _measured(study: Study, scale: Scale, images: ImageSet) -> dict[str, dict[str, Any]]:
    """Return what the file holds, see :func:`load`."""
    speed = speeds(study, scale, images)
    recipes = {label: scale.recipe(arm.recipe) for label, arm in study.arms.items()}
    seen = _reference(study, scale, images) * recipes[study.equal_time].batch_size
    steps = {
        label: max(1, round(seen * speed[label] / speed[study.equal_time] / recipes[label].batch_size))
        for label in study.arms
    }
    return {"images_per_second": speed, "steps": steps}


def load(study: Study, path: Path) -> dict[str, dict[str, float]]:
    """Return what a file of lengths holds: ``steps`` and ``images_per_second`` of each arm.

    Raises:
        RecordError: if the file is damaged, or made for other arms.
    """
    try:
        content = read_json(path)
        made_for = [content[kind].keys() for kind in ("steps", "images_per_second")]
        for steps in content["steps"].values():
            check_at_least(1, steps=steps)
        if not all(speed > 0 for speed in content["images_per_second"].values()):
            raise ValueError("a speed is not positive")
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} holds no lengths of trainings ({error}); delete it") from error
    if any(labels != study.arms.keys() for labels in made_for):
        raise RecordError(f"{path} was made for other arms than the study {study.name!r} has now; delete it")
    return content


def recorded_speeds(study: Study, budget: str, folder: str | Path | None = None) -> dict[str, float]:
    """Return the images a second of each arm, trained alone, from which the recorded lengths came; or nothing.

    ``folder`` holds the records; default: those that come with the package.

    Raises:
        UnknownBudget: if there is no such budget.
    """
    return _recorded(study, settings.budget(budget), folder).get("images_per_second", {})


def speeds_behind(study: Study, budget: str, steps: Mapping[str, int]) -> dict[str, float]:
    """Return :func:`recorded_speeds`, if the lengths that came of them are ``steps``, of each arm.

    If they are not, the trainings were done on another machine, or anew, and nothing is returned.
    """
    recorded = _recorded(study, budget)
    return recorded["images_per_second"] if recorded and steps.items() <= recorded["steps"].items() else {}


def _recorded(study: Study, budget: str, folder: str | Path | None = None) -> dict[str, dict[str, float]]:
    path = user_path(folder or SHIPPED) / study.name / file_name(budget)
    return load(study, path) if path.exists() else {}


def file_name(budget: str, stand_in: str | None = None) -> str:
    """Return the name of the file that keeps the lengths."""
    return f"{budget}-lengths{f'-{stand_in.lower()}' if stand_in else ''}.json"


def recipe(scale: Scale, arm: Arm, steps: int | None) -> Recipe:
    """Return the recipe of an arm at its length: the study's, or ``steps``."""
    own = scale.recipe(arm.recipe)
    return own if steps is None else own.limited(steps=steps)
