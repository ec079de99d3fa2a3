"""The table that says what a study found, and what it did not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from cnnlib.studies.errors import StudyError
from cnnlib.studies.record import Record, in_order, load_records
from cnnlib.studies.statistics import Summary, differ, summarise
from cnnlib.studies.study import Study
from cnnlib.training import Table
from cnnlib.training.table import in_words

MEASURES = {"training error": "train_error", "test error": "test_error"}


def compare(study: Study, records: Sequence[Record]) -> Table:
    """Return the results of a study: one row an arm, mean ± standard deviation over its seeds.

    The notes below the table name the arms that differ, and rank nothing whose 95 % intervals overlap
    (:mod:`cnnlib.studies.statistics`).

    Args:
        study: the study.
        records: of one budget and one data set, each arm and seed at most once.

    Raises:
        StudyError: if there are none, or if they are not comparable.
    """
    if not records:
        raise StudyError(f"there are no records of the study {study.name!r}; make some with cnnlib.studies.run")
    _require_comparable(study, records)
    arms = {
        label: [record for record in in_order(study, records) if record.arm == label]
        for label in study.arms
        if any(record.arm == label for record in records)
    }
    summaries = {
        measure: {
            label: summarise([getattr(record.run, attribute) for record in chosen]) for label, chosen in arms.items()
        }
        for measure, attribute in MEASURES.items()
    }
    return Table(
        caption=_caption(study, records[0]),
        columns=("", "n", *(f"{measure}, %" for measure in MEASURES), "parameters", "steps", "time a run", "hardware"),
        rows=tuple(
            (
                label,
                str(len(chosen)),
                *(str(summaries[measure][label]) for measure in MEASURES),
                _each([f"{record.run.parameters:,}" for record in chosen]),
                _each([f"{record.run.steps:,}" for record in chosen]),
                in_words(fmean(record.run.seconds for record in chosen)),
                _each([record.run.hardware for record in chosen]),
            )
            for label, chosen in arms.items()
        ),
        notes=(
            *(line for measure in MEASURES for line in _verdicts(measure, summaries[measure])),
            "Mean ± standard deviation over n seeds, after the last step. A difference counts as shown where the 95 % "
            "confidence intervals of the means do not overlap.",
        ),
    )


def with_recorded(study: Study, live: Sequence[Record]) -> list[Record]:
    """Return live records together with those that come with the package: same budget and data set, other seeds.

    A live training on a stand-in data set is joined by none.
    """
    if not live:
        return []
    first = live[0].run
    have = {(record.arm, record.run.seed) for record in live}
    recorded = load_records(study, first.budget) if first.budget in study.budgets else []
    fitting = [
        record for record in recorded if record.run.data == first.data and (record.arm, record.run.seed) not in have
    ]
    return in_order(study, [*live, *fitting])


def _require_comparable(study: Study, records: Sequence[Record]) -> None:
    for what, values in (
        ("studies", {record.study for record in records} | {study.name}),
        ("data sets", {record.run.data for record in records}),
        ("budgets", {str(record.run.budget) for record in records}),
    ):
        if len(values) > 1:
            raise StudyError(f"records of different {what} cannot be compared: {', '.join(sorted(values))}")
    seen = [(record.arm, record.run.seed) for record in records]
    twice = {f"{arm} seed {seed}" for arm, seed in seen if seen.count((arm, seed)) > 1}
    if twice:
        raise StudyError(f"more than one record of {', '.join(sorted(twice))}")


def _caption(study: Study, record: Record) -> str:
    run = record.run
    data = f"{run.data.upper()}, IN PLACE OF {run.stands_in_for}: NOT COMPARABLE" if run.stands_in_for else run.data
    return f"{study.question} {data}, {run.train_images:,} training images, budget {run.budget}"


def _each(values: Sequence[str]) -> str:
    """Return the one value that all share, or all of them."""
    return "; ".join(dict.fromkeys(values))


def _verdicts(measure: str, summaries: dict[str, Summary]) -> list[str]:
    """Return what the intervals say about each pair of arms."""
    verdicts, alike = [], []
    for a, b in combinations(summaries, 2):
        if differ(summaries[a], summaries[b]):
            lower, higher = sorted((a, b), key=lambda label: summaries[label].mean)
            gap = summaries[higher].mean - summaries[lower].mean
            verdicts.append(f"{measure}: {lower} is {gap:.2f} points lower than {higher}.")
        else:
            alike.append(f"{a} and {b}")
    if alike:
        which = "; ".join(alike) if verdicts or len(alike) == 1 else f"any two of {', '.join(summaries)}"
        single = any(summary.interval is None for summary in summaries.values())
        why = " (a single run has no error bar)" if single else ""
        verdicts.append(f"{measure}: no difference shown between {which}{why}.")
    return verdicts
