"""Networks of several families averaged: each pair and all together, against the best of them alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch

from cnnlib.data import ImageSet
from cnnlib.studies.ensembles import percent, require_data, require_networks
from cnnlib.studies.errors import StudyError
from cnnlib.table import Column, Table
from cnnlib.training import Run, predict
from cnnlib.training.words import data_in_words


@dataclass(frozen=True)
class Fused:
    """The averaged probabilities of some networks on the test images; all numbers in percent of the images.

    Attributes:
        members: the networks.
        best: the lowest error of one of them alone.
        error: of the average.
        gain: how much lower that is than ``best``.
        uncertainty: the standard error of ``gain`` over the images, for these trainings.
        all_wrong: what every one of them gets wrong.
    """

    members: tuple[str, ...]
    best: float
    error: float
    gain: float
    uncertainty: float
    all_wrong: float


@dataclass(frozen=True, repr=False)
class Fusion:
    """What averaging networks brings: a table of :class:`Fused`, each pair of the networks and all of them."""

    data: str
    stands_in_for: str | None
    images: int
    alone: Mapping[str, float]
    fused: tuple[Fused, ...]

    def table(self) -> Table:
        """Return the errors as a table."""
        data = data_in_words(self.data, self.stands_in_for)
        return Table(
            caption=f"Averaged probabilities, {data}, {self.images:,} test images",
            columns=(
                Column("", numeric=False),
                *(
                    Column("best alone", "%"),
                    Column("averaged", "%"),
                    Column("gain", "points"),
                    Column("all wrong", "%"),
                ),
            ),
            rows=(
                *((name, f"{error:.2f}", "", "", f"{error:.2f}") for name, error in self.alone.items()),
                *(
                    (
                        " + ".join(row.members),
                        *(f"{row.best:.2f}", f"{row.error:.2f}"),
                        *(f"{row.gain:+.2f} ± {row.uncertainty:.2f}", f"{row.all_wrong:.2f}"),
                    )
                    for row in self.fused
                ),
            ),
            notes=(
                "Gain: against the best of the row alone, ± one standard error over the test images. Each network was "
                "trained once; another training would give other numbers.",
            ),
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def fuse(runs: Mapping[str, Run], data: ImageSet) -> Fusion:
    """Average the softmax outputs of trained networks of any kind over the test images.

    Args:
        runs: by label; finished in this session, so that they still have their networks.
        data: the set they were trained on.

    Raises:
        StudyError: if there are fewer than two, one has no network, or they were trained on different data.
    """
    if len(runs) < 2:
        raise StudyError(f"averaging needs at least two networks, and there are {len(runs)}")
    require_networks(runs.values())
    require_data((run.data for run in runs.values()), data)
    labels = data.test_labels.cpu()
    outputs = {
        name: predict(run.module, data.test_images, data).double().softmax(1).cpu() for name, run in runs.items()
    }
    wrong = {name: output.argmax(1) != labels for name, output in outputs.items()}
    groups = [*combinations(runs, 2)] + ([tuple(runs)] if len(runs) > 2 else [])
    return Fusion(
        data=data.name,
        stands_in_for=data.stands_in_for,
        images=len(labels),
        alone={name: percent(of) for name, of in wrong.items()},
        fused=tuple(_fused(members, outputs, wrong, labels) for members in groups),
    )


def _fused(
    members: tuple[str, ...],
    outputs: Mapping[str, torch.Tensor],
    wrong: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
) -> Fused:
    best = min((wrong[name] for name in members), key=percent)
    averaged = torch.stack([outputs[name] for name in members]).mean(0).argmax(1) != labels
    difference = best.double() - averaged.double()
    return Fused(
        members=members,
        best=percent(best),
        error=percent(averaged),
        gain=100 * difference.mean().item(),
        uncertainty=100 * difference.std().item() / len(labels) ** 0.5,
        all_wrong=percent(torch.stack([wrong[name] for name in members]).all(0)),
    )
