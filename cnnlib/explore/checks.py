"""What several figures and explorers refuse, each with an error of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cnnlib.errors import CnnlibError
from cnnlib.settings import BUDGETS

if TYPE_CHECKING:
    from cnnlib.studies import Record
    from cnnlib.training import Run


class OutOfRange(CnnlibError, ValueError):
    """The explorer was asked to start from a setting that its sliders do not have."""


def require_by_label(
    error: type[CnnlibError], name: str, given: object, what: str = "results", label: str = "label"
) -> None:
    """Tell who gives one result to the figure ``name`` how to give it; ``what`` and ``label`` are words.

    Raises:
        CnnlibError: ``error``, if what was given is no mapping.
    """
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise error(f"{name} needs {what} by {label}, even of one; pass {{'a {label}': {what}}}, not a {kind}")


def holds_flow(record: Record) -> bool:
    """Tell whether a record holds the gradient at each layer, from :func:`cnnlib.studies.degradation.flow`."""
    return record.probe is not None and isinstance(record.probe.initial, list)


def require_alike(error: type[CnnlibError], runs: Iterable[Run]) -> None:
    """Keep trainings of several budgets or images from being averaged to an error that nobody measured.

    Raises:
        CnnlibError: ``error``, if the runs are not all of one budget and of the same images.
    """
    runs = list(runs)
    budgets = [budget for budget in (*BUDGETS, None) if any(run.budget == budget for run in runs)]
    if len(budgets) > 1:
        named = " and ".join(budget or "none" for budget in budgets)
        raise error(f"these records are of {len(budgets)} budgets, {named}; pass load_records(study, {budgets[0]!r})")
    images = {f"{run.data} ({run.train_images:,} to train on, {run.test.n:,} to test)" for run in runs}
    if len(images) > 1:
        raise error(f"these records are of different images, {' and '.join(sorted(images))}; pass those of one kind")
