"""Averages of trained networks of several families and seeds: is another family worth more than another seed?

Every pair of networks is averaged. A pair of one family has two seeds; the control against which a pair of two families
is to be judged. All seeds of one family, and one network of each family, are averaged as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from statistics import fmean

import torch

from cnnlib.data import ImageSet
from cnnlib.files import read_json, write_json
from cnnlib.studies.ensembles import percent, require_data, require_distinct, require_networks
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.record import Record
from cnnlib.studies.statistics import summarise
from cnnlib.table import Column, Table
from cnnlib.training import predict
from cnnlib.training.words import data_in_words


@dataclass(frozen=True)
class Mixture:
    """The averaged probabilities of some networks; all in percent of the test images.

    Attributes:
        arms: of the members.
        seeds: likewise.
        alone: the error of each member.
        error: of the average.
        all_wrong: what every one of them gets wrong.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    alone: tuple[float, ...]
    error: float
    all_wrong: float

    @property
    def gain(self) -> float:
        """How much lower the error of the average is than that of the best member."""
        return min(self.alone) - self.error


@dataclass(frozen=True, repr=False)
class Mixtures:
    """Every pair of some networks, all seeds of each arm, and one network of each arm with the same seed."""

    study: str
    data: str
    stands_in_for: str | None
    budget: str | None
    images: int
    mixtures: tuple[Mixture, ...]

    @property
    def networks(self) -> dict[tuple[str, int], float]:
        """The errors of those that are averaged, by arm and seed."""
        return {
            (arm, seed): error
            for mixture in self.mixtures
            for arm, seed, error in zip(mixture.arms, mixture.seeds, mixture.alone, strict=True)
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON and return where it lies."""
        return write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Mixtures:
        """Read a saved one.

        Raises:
            RecordError: if the file holds none.
        """
        try:
            values = read_json(path)
            mixtures = tuple(
                Mixture(**row | {name: tuple(row[name]) for name in ("arms", "seeds", "alone")})
                for row in values["mixtures"]
            )
            found = cls(**values | {"mixtures": mixtures})
            found.networks  # noqa: B018  (which fails if they are not as many as their errors)
            str(found)  # which fails if a value is of another kind
            return found
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, StudyError) as error:
            raise RecordError(
                f"{path} holds no averages of networks ({error}); delete it if it is there, and run the study with all "
                "arms and seeds"
            ) from error

    def of(self, *arms: str) -> list[Mixture]:
        """Return the mixtures of networks of exactly these arms, in this number and any order."""
        return [mixture for mixture in self.mixtures if sorted(mixture.arms) == sorted(arms)]

    def table(self) -> Table:
        """Return a row for each combination of arms: means over the seeds, and the spread of the gain."""
        kinds = list(dict.fromkeys(mixture.arms for mixture in self.mixtures))
        data = data_in_words(self.data, self.stands_in_for)
        return Table(
            caption=f"Averaged probabilities, {data}, {self.images:,} test images, {self.budget} budget",
            columns=(
                *(Column("members", numeric=False), Column("number of such averages")),
                *(Column("members alone", "%"), Column("best alone", "%"), Column("averaged", "%")),
                *(Column("gain", "points"), Column("all wrong", "%")),
            ),
            rows=tuple(self._row(kind) for kind in kinds),
            notes=(
                "Means over all networks of these kinds. Gain: how much lower the average errs than the best of its "
                "members, ± the standard deviation over such averages. These share members, so it is no standard "
                "error.",
            ),
        )

    def _row(self, kind: tuple[str, ...]) -> tuple[str, ...]:
        rows = self.of(*kind)
        return (
            in_words(kind),
            str(len(rows)),
            f"{fmean(fmean(row.alone) for row in rows):.2f}",
            f"{fmean(min(row.alone) for row in rows):.2f}",
            f"{fmean(row.error for row in rows):.2f}",
            str(summarise([row.gain for row in rows])),
            f"{fmean(row.all_wrong for row in rows):.2f}",
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def in_words(arms: Sequence[str]) -> str:
    """Say which networks: ``"A + B"``, or ``"A, 3 seeds"``."""
    return " + ".join(arms) if len(set(arms)) > 1 else f"{arms[0]}, {len(arms)} seeds"


def mix(study: str, records: Sequence[Record], data: ImageSet) -> Mixtures:
    """Average the softmax outputs of trained networks over the test images.

    Args:
        study: its name.
        records: of trainings finished in this session, so that they still have their networks.
        data: the set they were trained on.

    Raises:
        StudyError: if there are fewer than two, one has no network, one is there twice, or was trained on other data,
            or they are of several budgets.
    """
    if len(records) < 2:
        raise StudyError(f"averaging needs at least two networks, and there are {len(records)}")
    require_networks(record.run for record in records)
    require_distinct((record.arm, record.run.seed) for record in records)
    require_data((record.run.data for record in records), data)
    for what in ("budget", "train_images"):
        if len({getattr(record.run, what) for record in records}) > 1:
            raise StudyError(f"networks of several trainings are averaged as of one budget, and these differ in {what}")
    arms = list(dict.fromkeys(record.arm for record in records))
    records = sorted(records, key=lambda record: (arms.index(record.arm), record.run.seed))
    labels = data.test_labels.cpu()
    outputs = {
        (record.arm, record.run.seed): predict(record.run.module, data.test_images, data).double().softmax(1).cpu()
        for record in records
    }
    first = records[0].run
    return Mixtures(
        study=study,
        data=data.name,
        stands_in_for=data.stands_in_for,
        budget=first.budget,
        images=len(labels),
        mixtures=tuple(_mixture(group, outputs, labels) for group in _groups([*outputs])),
    )


def _groups(networks: list[tuple[str, int]]) -> list[tuple[tuple[str, int], ...]]:
    arms = list(dict.fromkeys(arm for arm, _ in networks))
    seeds = sorted({seed for _, seed in networks})
    pairs = [
        pair
        for kind in combinations_with_replacement(arms, 2)
        for pair in combinations(networks, 2)
        if {arm for arm, _ in pair} == set(kind)
    ]
    same = [tuple(network for network in networks if network[0] == arm) for arm in arms]
    each = [tuple((arm, seed) for arm in arms if (arm, seed) in networks) for seed in seeds]
    return [*pairs, *(group for group in same if len(group) > 2), *(group for group in each if len(group) > 2)]


def _mixture(
    group: tuple[tuple[str, int], ...], outputs: dict[tuple[str, int], torch.Tensor], labels: torch.Tensor
) -> Mixture:
    wrong = [outputs[network].argmax(1) != labels for network in group]
    averaged = torch.stack([outputs[network] for network in group]).mean(0).argmax(1) != labels
    return Mixture(
        arms=tuple(arm for arm, _ in group),
        seeds=tuple(seed for _, seed in group),
        alone=tuple(percent(of) for of in wrong),
        error=percent(averaged),
        all_wrong=percent(torch.stack(wrong).all(0)),
    )


def mixtures_name(budget: str | None, stand_in: str | None = None) -> str:
    """Return the name of the file of a study's mixtures."""
    return f"{budget}-mixtures{f'-{stand_in.lower()}' if stand_in else ''}.json"
