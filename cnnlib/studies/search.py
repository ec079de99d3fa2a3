"""Four ways to search for a cell, and none: the cells found, trained from scratch with one recipe, tested once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from cnnlib import settings
from cnnlib.data import ImageSet, load
from cnnlib.errors import CnnlibError
from cnnlib.files import read_json, user_path, write_json
from cnnlib.measure import count_parameters
from cnnlib.models.cells import Plan
from cnnlib.search import WAYS, Effort, Found, Round, Space, Uniform, network, search, split
from cnnlib.settings import BUDGETS
from cnnlib.studies.comparison import NOTHING, comparable, refuse_twice, verdicts, where_and_how_long
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.queue import Task, in_hand, work_off
from cnnlib.studies.record import SHIPPED, file_name, refuse_different, refuse_misnamed, refuse_none, refuse_stand_in
from cnnlib.studies.schemas import SEARCH, validate, what_to_do
from cnnlib.studies.statistics import LEGEND, summarise
from cnnlib.studies.study import require_sequences
from cnnlib.table import Column, Table
from cnnlib.training import RECIPES, Interrupted, Progress, Recipe, Run, fit, hardware
from cnnlib.training.recipe import WORDS

FORMAT = 1
NAME = "search"
"""Of the folder of records."""

SPACE = Space(nodes=3)
ARMS = {
    "none": "no search",
    "random-own": "random, own weights",
    "nas": "NAS",
    "random-shared": "random, shared weights",
    "enas": "ENAS",
}
"""What is compared, in words: a cell drawn at random, and the four ways of :data:`cnnlib.search.WAYS`."""


@dataclass(frozen=True)
class SearchScale:
    """What a budget means: for the search, for the final training, and how often both.

    Attributes:
        effort: of each search.
        final: training steps of the cell that was found.
        seeds: one search and one final training each.
        batch_size: of the final training.
        images: use only so many training and test images (for tests).
    """

    effort: Effort
    final: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 128
    images: int | None = None

    @property
    def recipe(self) -> Recipe:
        """How the cells found are trained: as a ResNet on CIFAR."""
        recipe = RECIPES["resnet-cifar"]
        if self.batch_size != recipe.batch_size:
            recipe = recipe.replace(batch_size=self.batch_size)
        return recipe.limited(steps=self.final) if self.final else recipe


SCALES = {
    "smoke": SearchScale(
        Effort(
            *(2, 16),
            updates=2,
            proposals=2,
            candidates=2,
            children=2,
            train=64,
            validation=32,
            channels=4,
        ),
        final=2,
        seeds=(0,),
        batch_size=16,
        images=128,
    ),
    "short": SearchScale(
        Effort(
            300,
            controller_lr=0.015,
            updates=40,
            proposals=4,
            candidates=10,
            children=10,
            train=10_000,
            validation=500,
        ),
        final=1000,
    ),
    "medium": SearchScale(
        Effort(
            2000,
            updates=250,
            proposals=8,
            candidates=50,
            children=40,
            train=20_000,
            validation=5000,
        ),
        final=2000,
    ),
    "full": SearchScale(
        Effort(
            *(50_000, 128),
            updates=4000,
            proposals=10,
            candidates=100,
            children=200,
            train=45_000,
            validation=5000,
            channels=16,
        )
    ),
}


@dataclass(frozen=True)
class SearchRun:
    """One search and the training of the cell it found.

    Attributes:
        arm: one of :data:`ARMS`.
        seed: of both.
        budget: which of :data:`SCALES`.
        effort: what the search might spend.
        found: what it found; with no search, a cell drawn at random and no costs.
        run: the final training, from scratch on all training images.
    """

    arm: str
    seed: int
    budget: str
    effort: Effort
    found: Found
    run: Run = field(repr=False)

    @property
    def test_error(self) -> float:
        """Error of the cell found, after its final training, on all test images, percent."""
        return self.run.test_error

    @property
    def file_name(self) -> str:
        """Name of the record's file."""
        return file_name(self.budget, self.arm, self.seed, self.run.data if self.run.stands_in_for else None)

    def save(self, folder: str | Path) -> Path:
        """Write the record into ``folder/search`` and return where it lies."""
        content = {
            "format": FORMAT,
            "arm": self.arm,
            "seed": self.seed,
            "budget": self.budget,
            "effort": dataclasses.asdict(self.effort),
            "found": _found_as_dict(self.found),
            "run": self.run.as_dict(),
        }
        return write_json(user_path(folder) / NAME / self.file_name, content)

    @classmethod
    def load(cls, path: str | Path) -> SearchRun:
        """Read a record.

        Raises:
            RecordError: if the file holds none.
        """
        try:
            content = read_json(path)
            validate(content, SEARCH)
            del content["format"]
            return cls(
                **content
                | {
                    "effort": Effort(**content["effort"]),
                    "found": _found_from_dict(content["found"]),
                    "run": Run.from_dict(content["run"]),
                }
            )
        except (ValueError, OSError, TypeError, CnnlibError) as error:
            raise RecordError(f"{path} holds no record of a search ({error}); {what_to_do(error)}") from error


def _found_as_dict(found: Found) -> dict[str, Any]:
    """Return values of JSON; a cell is the sequence of its decisions."""
    return dataclasses.asdict(found) | {
        "plan": SPACE.decisions(found.plan),
        "history": [dataclasses.asdict(one) for one in found.history],
        "candidates": [[SPACE.decisions(plan), reward] for plan, reward in found.candidates],
    }


def _found_from_dict(values: dict[str, Any]) -> Found:
    return Found(
        **values
        | {
            "plan": SPACE.plan(values["plan"]),
            "history": tuple(Round(**one) for one in values["history"]),
            "candidates": tuple((SPACE.plan(decisions), reward) for decisions, reward in values["candidates"]),
        }
    )


def check(run: SearchRun, path: Path, images: ImageSet | None = None) -> None:
    """Compare a record with its name, with the scale of its budget as it is now, and with the images to search on.

    Raises:
        RecordError: naming what differs.
    """
    refuse_misnamed(path, run.file_name)
    scale = SCALES[run.budget]
    expected = dataclasses.asdict(scale.effort) | {f"recipe.{k}": v for k, v in scale.recipe.as_dict().items()}
    found = dataclasses.asdict(run.effort) | {f"recipe.{k}": v for k, v in run.run.recipe.as_dict().items()}
    for word in ("seed", "budget"):
        expected[word], found[word] = getattr(run, word), getattr(run.run, word)
    expected["final steps"], found["final steps"] = scale.recipe.steps(run.run.train_images), run.run.steps
    if images:
        expected["train_images"], found["train_images"] = len(images.train_labels), run.run.train_images
        expected["test_images"], found["test_images"] = len(images.test_labels), run.run.test.n
    with torch.device("meta"):
        expected["parameters"] = count_parameters(network(run.found.plan, scale.effort.channels))
    found["parameters"] = run.run.parameters
    refuse_different(path, "the search", found, expected, {f"recipe.{word}" for word in WORDS})


def load_records(budget: str | None = None, folder: str | Path | None = None) -> list[SearchRun]:
    """Return recorded searches, in the order of arms, budgets and seeds.

    Args:
        budget: of this budget only; None for all.
        folder: where to look; default: the records that come with the package.

    Raises:
        RecordError: if one is damaged, was measured on a stand-in, or is not of the search as it is now.
        UnknownBudget: if there is no such budget.
    """
    budget = budget and settings.budget(budget)
    runs = []
    for path in sorted((user_path(folder or SHIPPED) / NAME).glob(f"{budget or '*'}-*-seed*.json")):
        run = SearchRun.load(path)
        refuse_stand_in(run.run, path)
        check(run, path)
        runs.append(run)
    return _in_order(runs)


def with_recorded(live: Sequence[SearchRun]) -> list[SearchRun]:
    """Return live searches together with those that come with the package: same budget and images, other seeds."""
    if not live:
        return []
    have = {(run.arm, run.seed) for run in live}
    recorded = [run for run in load_records(live[0].budget) if _images(run) == _images(live[0])]
    return _in_order([*live, *(run for run in recorded if (run.arm, run.seed) not in have)])


def _images(run: SearchRun) -> tuple[str, int, int]:
    return run.run.data, run.run.train_images, run.run.test.n


def _in_order(runs: Sequence[SearchRun]) -> list[SearchRun]:
    arms = list(ARMS)
    return sorted(runs, key=lambda run: (arms.index(run.arm), BUDGETS.index(run.budget), run.seed))


def run(
    *,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    data: ImageSet | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> list[SearchRun]:
    """Search once a seed in every way, and train the cells found.

    Searches see training images only, in two parts. The cells found are trained on all training images, and the test
    images are looked at once, when that is over. With a ``folder`` each is recorded there at once, and the same call
    after a break skips what is recorded, and one that fails does not stop the others. What another process has in hand
    is left to it.

    Args:
        budget: smoke, short, medium or full; default the budget in force (:func:`cnnlib.budget`).
        seeds: each counts once; default: those of the budget.
        arms: likewise; default all.
        data: default CIFAR-10, or its stand-in.
        folder: of records.
        progress: False shows none.

    Raises:
        StudyError: if there is no such arm, or one is given by itself and not in a sequence, or none is given.
        Unfinished: with a folder, at the end, if some failed, or another process has them in hand. It names them, and
            holds the records of the others.
        ArgumentError: if a seed is negative.
        RecordError: if a record in the folder is not of the search as it is now; nothing is searched then.
        Interrupted: after Ctrl-C. A search that is broken off begins anew.
    """
    if not isinstance(data, ImageSet | None):
        raise StudyError(f"run needs images, such as cnnlib.load_data('cifar10'), not {data!r}")
    budget, seeds, arms = settled(budget, seeds, arms)
    scale = SCALES[budget]
    folder = user_path(folder) if folder else None
    data = data or load("cifar10")
    if data.name != "CIFAR-10" and not data.stands_in_for:
        data = replace(data, stands_in_for="CIFAR-10")
    if scale.images:
        data = data.subset(scale.images, test=scale.images)
    stand_in = data.name if data.stands_in_for else None
    paths = {
        (arm, seed): folder / NAME / file_name(budget, arm, seed, stand_in) if folder else None
        for arm, seed in product(arms, seeds)
    }
    for path in paths.values():
        _recorded(path, data)  # so that one that does not fit is refused now, not after hours of searching
    tasks = [
        Task(NAME, arm, seed, path, functools.partial(_record, arm, seed, budget, data, path))
        for (arm, seed), path in paths.items()
    ]
    return work_off([task.kept_going() for task in tasks] if folder else tasks, progress=progress)


def settled(
    budget: str | None, seeds: Sequence[int] | None, arms: Sequence[str] | None
) -> tuple[str, list[int], list[str]]:
    """Return which budget, seeds and arms these arguments of :func:`run` mean, each once.

    Raises:
        StudyError, ArgumentError: as :func:`run`.
        UnknownBudget, UnknownDevice: if the setting in force is none.
    """
    require_sequences(seeds, arms)
    budget = settings.budget(budget)
    settings.device()  # refused once and now, not once for each search
    if unknown := [arm for arm in arms or () if arm not in ARMS]:
        raise StudyError(f"there is no way {unknown[0]!r} to search; there are {', '.join(ARMS)}")
    seeds = map(hardware.checked_seed, SCALES[budget].seeds if seeds is None else seeds)
    return budget, [*dict.fromkeys(seeds)], [*dict.fromkeys(ARMS if arms is None else arms)]


def _record(
    arm: str, seed: int, budget: str, data: ImageSet, path: Path | None, display: Progress, together: int = 1
) -> SearchRun:
    """Return the record of one search: the one at ``path``, or that of a search now; they are made one by one."""
    try:
        with in_hand(path):
            if recorded := _recorded(path, data):
                return recorded
            found = _one(arm, seed, budget, data, display)
            if path:
                found.save(path.parents[1])
            return found
    except KeyboardInterrupt:
        where = f"stopped in {arm}, seed {seed}"
        if not path:
            raise Interrupted(f"{where}; without a folder nothing is kept") from None
        further = f"begins it anew and skips what is recorded in {path.parent}"
        raise Interrupted(f"{where}; the same call, or command, {further}") from None


def _recorded(path: Path | None, images: ImageSet) -> SearchRun | None:
    """Return the record at ``path``, which fits the search and its images, or None if there is none."""
    if path is None or not path.exists():
        return None
    run = SearchRun.load(path)
    check(run, path, images)
    return run


def _one(arm: str, seed: int, budget: str, data: ImageSet, display: Progress) -> SearchRun:
    scale = SCALES[budget]
    effort = scale.effort
    if arm in WAYS:
        found = search(
            *(arm, split(data, effort.train, effort.validation), effort), space=SPACE, seed=seed, progress=display
        )
    else:
        (decisions,) = Uniform(SPACE, seed).propose(1)
        found = Found(SPACE.plan(decisions), 0.0, (), (), 0, 0, 0, 0.0)
    return SearchRun(arm, seed, budget, effort, found, train(found.plan, data, budget, seed, display))


def train(plan: Plan, data: ImageSet, budget: str, seed: int = 0, progress: bool | Progress = True) -> Run:
    """Train the network of one cell as those that were found, from scratch on all training images, and test it once."""
    scale = SCALES[settings.budget(budget)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = network(plan, scale.effort.channels, len(data.classes))
    return fit(net, data, scale.recipe, seed=seed, evaluate_every=10**9, budget=budget, progress=progress)


def publish(budget: str, folder: str | Path, *, destination: str | Path | None = None) -> list[Path]:
    """Copy the records of a budget to those that come with the package. Return their paths.

    Raises:
        RecordError: if there are none, or if one is damaged, was measured on a stand-in, or is not of the search as it
            is now. Nothing is copied then.
    """
    runs = load_records(budget, folder)
    refuse_none(runs, user_path(folder) / NAME, budget)
    return [run.save(destination or SHIPPED) for run in runs]


def table(runs: Sequence[SearchRun]) -> Table:
    """Return the searches of one budget as a table: one row a way, with what it cost and the error of its cells.

    Errors are mean ± standard deviation over seeds, in brackets their number. The notes rank nothing whose intervals
    overlap, as those of :func:`cnnlib.studies.compare`.

    Raises:
        StudyError: if there are no searches, if they are not of one budget and as many images of one data set, or if
            one is there twice.
    """
    if len({(run.budget, _images(run)) for run in runs}) != 1:
        raise StudyError(
            "a table needs searches of one budget and of one data set, on equally many training images and test images"
        )
    refuse_twice((run.budget, run.arm, run.seed) for run in runs)
    groups = {arm: [run for run in runs if run.arm == arm] for arm in ARMS}
    groups = {arm: group for arm, group in groups.items() if group}
    first = runs[0]

    def mean(group: Sequence[SearchRun], value: Callable[[SearchRun], float]) -> str:
        return f"{round(fmean(map(value, group))):,}"

    data = comparable(first.run)
    return Table(
        caption=f"Which way to search finds the best cell? {data}, {first.budget}",
        columns=(
            Column("search", numeric=False),
            *(Column(heading) for heading in ("cells rewarded", "images trained on", "images for rewards")),
            Column("search time, median", "s"),
            *(Column("mean parameters of the nets"), Column("training error", "%"), Column("test error", "%")),
        ),
        rows=tuple(
            (
                ARMS[arm],
                mean(group, lambda run: run.found.cells),
                mean(group, lambda run: run.found.trained_images),
                mean(group, lambda run: run.found.validated_images),
                _search_time(group),
                mean(group, lambda run: run.run.parameters),
                f"{summarise([run.run.train_error for run in group])} ({len(group)})",
                f"{summarise([run.test_error for run in group])} ({len(group)})",
            )
            for arm, group in groups.items()
        ),
        notes=(
            *verdicts(
                "test error", {ARMS[arm]: summarise([run.test_error for run in group]) for arm, group in groups.items()}
            ),
            "NAS: a controller, and own weights for each cell. ENAS: a controller, and shared weights. No search: a "
            "cell drawn at random.",
            f"{first.effort.steps:,} training steps a search; each cell found then trained from scratch with "
            f"{first.run.recipe}: {where_and_how_long([run.run for run in runs])}.",
            LEGEND,
        ),
    )


def _search_time(group: Sequence[SearchRun]) -> str:
    """Return the median over seeds: a busy machine only adds. Different machines have none in common."""
    if len({run.run.hardware for run in group}) > 1:
        return NOTHING
    return f"{round(median(run.found.seconds for run in group)):,}"
