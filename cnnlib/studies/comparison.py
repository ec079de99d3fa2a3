"""The table that says what a study found, and what it did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import torch

from cnnlib.measure import multiply_adds
from cnnlib.models import Published, card, create
from cnnlib.settings import BUDGETS
from cnnlib.studies.errors import StudyError
from cnnlib.studies.record import Record, differences, in_order, load_records, require_records
from cnnlib.studies.statistics import LEGEND, Summary, differ, summarise
from cnnlib.studies.study import STUDIES, Arm, Study, require_sequences, require_study
from cnnlib.table import Column, Table
from cnnlib.training import Recipe, Run
from cnnlib.training.recipe import WORDS
from cnnlib.training.words import data_in_words, in_words

MEASURES = {"training error": "train_error", "test error": "test_error"}
IMAGE = (3, 32, 32)
"""What multiply-adds are counted for: an image of CIFAR."""
NOTHING = "–"
LENGTHS = ("iterations", "epochs", "full_length")
"""What a recipe says of its length, which the budget of a study sets."""
FEW = 3
"""So many pairs of arms without a difference are named; more are counted."""


def compare(study: Study, records: Sequence[Record] | None = None, *, arms: Sequence[str] | None = None) -> Table:
    """Return the results of a study: one row an arm, two columns a budget, and what the paper says.

    Errors are mean ± standard deviation over seeds, in brackets their number, after the last step. The notes below
    name length, time and hardware of each budget, the recipes with their deviations from the published ones, and the
    arms that differ. They rank nothing whose 95 % intervals overlap (:mod:`cnnlib.studies.statistics`).

    Args:
        study: the study.
        records: of one data set, each arm and seed at most once a budget; default: those that come with the package.
        arms: labels of those to compare, in the order of the rows; default all.

    Raises:
        StudyError: if there are none, or if they are no records, or not comparable, or if there is no such arm.
    """
    require_study("compare", study)
    shipped = load_records(study) if records is None else _shipped(study)
    records = shipped if records is None else require_records("compare", records)
    require_sequences(None, arms)
    if arms is not None:
        study = replace(study, arms={label: study.arm(label) for label in arms})
        records = [record for record in records if record.arm in study.arms]
    if not records:
        raise StudyError(f"there are no records of the study {study.name!r}; make some with cnnlib.studies.run")
    _require_comparable(study, records)
    records = in_order(study, records)
    budgets = [budget for budget in BUDGETS if any(record.run.budget == budget for record in records)]
    cells = {
        (arm, budget): [record.run for record in records if (record.arm, record.run.budget) == (arm, budget)]
        for arm in study.arms
        for budget in budgets
    }
    measured = [arm for arm in study.arms if any(cells[arm, budget] for budget in budgets)]
    recipes = list(dict.fromkeys(study.arms[arm].recipe for arm in measured))
    paper = {arm: published(study, study.arms[arm]) for arm in measured}
    alike = len({record.run.train_images for record in records}) == 1  # else each budget says how many images
    return Table(
        caption=_caption(study, records[0].run, images=alike),
        columns=(
            *(Column("", numeric=False), Column("parameters"), Column("multiply-adds")),
            *(Column(f"{budget}: {measure}", "%") for budget in budgets for measure in MEASURES),
            *(Column("paper: test error", "%"), Column("recipe", numeric=False)),
        ),
        rows=tuple(
            (
                arm,
                _each(f"{run.parameters:,}" for budget in budgets for run in cells[arm, budget]),
                f"{_cost(study.arms[arm]):,}",
                *(_cell(cells[arm, budget], name) for budget in budgets for name in MEASURES.values()),
                _published_cell(paper[arm]),
                _letter(recipes.index(study.arms[arm].recipe)),
            )
            for arm in measured
        ),
        notes=(
            *(line for budget in budgets for line in _findings(budget, measured, cells)),
            *(
                _conditions(budget, {arm: cells[arm, budget] for arm in measured}, images=not alike)
                for budget in budgets
            ),
            *_gaps(
                *(study, budgets, measured, cells),
                shipped={
                    (record.arm, record.run.budget) for record in shipped if record.run.data == records[0].run.data
                },
            ),
            *(f"Recipe {_letter(index)}: {_recipe(recipe)}" for index, recipe in enumerate(recipes)),
            *(f"Paper: {source}." for source in dict.fromkeys(error.source for error in paper.values() if error)),
            LEGEND,
        ),
    )


def _shipped(study: Study) -> list[Record]:
    """Return the records that come with the package; of a study of the book that was changed there are none."""
    return load_records(study) if STUDIES.get(study.name, study) == study else []


def with_recorded(study: Study, live: Sequence[Record], *, other_budgets: bool = False) -> list[Record]:
    """Return live records together with those that come with the package: same budget and images, other seeds.

    A live training on a stand-in data set is joined by none, and so is one of a study of the book that was changed.

    Args:
        study: the study.
        live: records of one budget.
        other_budgets: add the records of the other budgets too, to set all lengths side by side.

    Raises:
        StudyError: if one is of another study, or is no record.
    """
    require_study("with_recorded", study)
    live = require_records("with_recorded", live, study)
    if not live:
        return []
    first = live[0].run
    have = {(record.arm, record.run.budget, record.run.seed) for record in live}
    fitting = [
        record
        for record in _shipped(study)
        if (record.run.data, record.run.test.n) == (first.data, first.test.n)
        and (record.run.train_images == first.train_images if record.run.budget == first.budget else other_budgets)
        and (record.arm, record.run.budget, record.run.seed) not in have
    ]
    return in_order(study, [*live, *fitting])


def published(study: Study, arm: Arm) -> Published | None:
    """Return the published error of an arm's network on the study's data: the arm's own, or that of its card."""
    if arm.published or arm.overrides or study.subset or arm.recipe.origin not in (None, arm.recipe):
        return arm.published
    errors = card(arm.model).published
    return next((error for error in errors if error.dataset == study.data_name and error.networks == 1), None)


def _require_comparable(study: Study, records: Sequence[Record]) -> None:
    for what, values in (
        ("studies", {record.study for record in records} | {study.name}),
        ("data sets", {record.run.data for record in records}),
    ):
        if len(values) > 1:
            raise StudyError(f"records of different {what} cannot be compared: {', '.join(sorted(values))}")
    for record in records:
        arm, run = study.arm(record.arm), record.run
        recipe = study.scale(run.budget).recipe(arm.recipe).as_dict()
        wanted = {**recipe, "model": arm.model, "overrides": dict(arm.overrides)}
        found = {**run.recipe.as_dict(), "model": run.model, "overrides": run.overrides}
        if different := differences(found, wanted, (*WORDS, *LENGTHS)):
            named = f"the record of {record.arm}, seed {run.seed},"
            raise StudyError(f"{named} is not of the study as it is now: {different}")
    for budget in BUDGETS:
        runs = [record.run for record in records if record.run.budget == budget]
        for what, numbers in (
            ("trainings on", {run.train_images for run in runs}),
            ("tests on", {run.test.n for run in runs}),
        ):
            if len(numbers) > 1:
                of_each = " and ".join(f"{count:,}" for count in sorted(numbers))
                raise StudyError(f"{budget}: {what} {of_each} images cannot be compared")
        for arm in study.arms:  # where the time is equal, each machine has its own lengths
            steps = {record.run.steps for record in records if (record.run.budget, record.arm) == (budget, arm)}
            if len(steps) > 1:
                of_each = " and ".join(f"{count:,}" for count in sorted(steps))
                raise StudyError(f"{budget}: trainings of {arm} of {of_each} steps cannot be averaged")
    refuse_twice((record.run.budget, record.arm, record.run.seed) for record in records)


def refuse_twice(runs: Iterable[tuple[str, str, int]]) -> None:
    """Keep a training, given by budget, arm and seed, from counting as several.

    Raises:
        StudyError: naming those that are there more than once.
    """
    twice = [f"{arm} seed {seed} ({budget})" for (budget, arm, seed), times in Counter(runs).items() if times > 1]
    if twice:
        raise StudyError(f"more than one record of {', '.join(sorted(twice))}")


def comparable(run: Run) -> str:
    """Return the data set of a run in words, and of a stand-in that its errors are not to be compared."""
    return data_in_words(run.data, run.stands_in_for) + (": NOT COMPARABLE" if run.stands_in_for else "")


def _caption(study: Study, run: Run, *, images: bool) -> str:
    return f"{study.question} {comparable(run)}{f', {_images(run)}' if images else ''}"


def _images(run: Run) -> str:
    return f"{run.train_images:,} training images"


def _cost(arm: Arm) -> int:
    with torch.device("meta"):
        return multiply_adds(create(arm.model, **arm.overrides), IMAGE)


def _cell(runs: Sequence[Run], measure: str) -> str:
    return f"{summarise([getattr(run, measure) for run in runs])} ({len(runs)})" if runs else NOTHING


def _published_cell(error: Published | None) -> str:
    if error is None:
        return NOTHING
    spread = "" if error.std is None else f" ± {error.std:g}"
    return f"{error.value:g}{spread} ({error.protocol})"


def _letter(index: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[index]


def _recipe(recipe: Recipe) -> str:
    deviations = f" Deviates: {recipe.deviations}." if recipe.deviations else ""
    return f"{recipe} ({recipe.source or 'ours'}).{deviations}"


def _conditions(budget: str, groups: dict[str, list[Run]], *, images: bool) -> str:
    runs = [run for group in groups.values() for run in group]
    steps = _each(f"{count:,}" for count in sorted({run.steps for run in runs}))
    on = f" on {_images(runs[0])}" if images else ""
    return f"{budget}: {steps} steps{on}; {where_and_how_long(runs)}.{_formats(groups)}"


def _formats(groups: dict[str, list[Run]]) -> str:
    """Say which arms have runs of several number formats, which the table averages."""
    mixed = {arm: formats for arm, runs in groups.items() if len(formats := {run.precision for run in runs}) > 1}
    if not mixed:
        return ""
    return f" Averages of {' and '.join(sorted(set().union(*mixed.values())))} runs: {_listed(mixed)}."


def _listed(labels: Iterable[str]) -> str:
    """Return labels in a row, with semicolons between them if one has a comma of its own."""
    labels = [*labels]
    return ("; " if any("," in label for label in labels) else ", ").join(labels)


def where_and_how_long(runs: Sequence[Run]) -> str:
    """Say how many runs each hardware did, and how long one took on average: different machines have no mean."""
    seconds = {run.hardware: [one.seconds for one in runs if one.hardware == run.hardware] for run in runs}
    return "; ".join(
        f"{len(times)} runs on {hardware}, {in_words(fmean(times))} each"
        if len(times) > 1
        else f"1 run on {hardware}, {in_words(times[0])}"
        for hardware, times in seconds.items()
    )


def _gaps(
    study: Study,
    budgets: Sequence[str],
    measured: Sequence[str],
    cells: dict[tuple[str, str], list[Run]],
    *,
    shipped: set[tuple[str, str]],
) -> Iterator[str]:
    """Say which budgets and arms have no records, and which the package has records of that are not in the table."""
    absent = {
        f"{budget} (all)": {(arm, budget) for arm in study.arms}
        for budget in study.budgets
        if budget not in budgets and budget != "smoke"
    }
    absent |= {f"{arm} (all)": {(arm, budget) for budget in budgets} for arm in study.arms if arm not in measured}
    absent |= {f"{a} ({b})": {(a, b)} for a in measured for b in budgets if not cells[a, b]}
    if gaps := [words for words, missing in absent.items() if not missing & shipped]:
        yield f"{NOTHING} Not measured yet: {', '.join(gaps)}."
    if elsewhere := shipped & set().union(*absent.values()):
        arms = {budget: [arm for arm in study.arms if (arm, budget) in elsewhere] for budget in BUDGETS}
        named = ", ".join(f"{budget} ({_listed(labels)})" for budget, labels in arms.items() if labels)
        yield f"{NOTHING} Recorded, but not in this table: {named}."


def _each(values: Iterable[str]) -> str:
    """Return the one value that all share, or all of them."""
    return "; ".join(dict.fromkeys(values))


def _findings(budget: str, arms: Sequence[str], cells: dict[tuple[str, str], list[Run]]) -> list[str]:
    return [
        f"{budget}, {line}"
        for measure, attribute in MEASURES.items()
        for line in verdicts(
            measure,
            {
                arm: summarise([getattr(run, attribute) for run in cells[arm, budget]])
                for arm in arms
                if cells[arm, budget]
            },
        )
    ]


def verdicts(measure: str, summaries: dict[str, Summary]) -> list[str]:
    """Return what the intervals say about each pair of arms, a line for each arm that is lower than others."""
    ranked = sorted(summaries, key=lambda arm: summaries[arm].mean)
    pairs = [*combinations(ranked, 2)]
    shown = [(lower, higher) for lower, higher in pairs if differ(summaries[lower], summaries[higher])]
    lines = []
    for arm in ranked:
        gaps = [
            f"than {higher} by {summaries[higher].mean - summaries[arm].mean:.2f}"
            for lower, higher in shown
            if lower == arm
        ]
        if gaps:
            lines.append(f"{measure}: {arm} is lower {', '.join(gaps)} points.")
    alike = [pair for pair in pairs if pair not in shown]
    if alike:
        names = "; ".join(" and ".join(sorted(pair, key=list(summaries).index)) for pair in alike)
        which = names if len(alike) <= FEW else f"any other two ({len(alike)} pairs)"
        if not shown and len(alike) > 1:
            which = f"any two of {_listed(summaries)}"
        single = any(summary.interval is None for summary in summaries.values())
        lines.append(
            f"{measure}: no difference shown between {which}{' (a single run has no error bar)' if single else ''}."
        )
    return lines
