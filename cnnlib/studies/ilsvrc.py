"""The winners of ILSVRC's classification task, 2010 to 2017, as published.

Every error is the top-5 error of the winning entry on the contest's test images, in percent, without further training
data. From 2012 on each entry averaged several networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.table import Column, Table


@dataclass(frozen=True)
class Winner:
    """The winning entry of one year.

    Attributes:
        year: of the contest.
        team: its name there.
        method: what it was made of.
        error: top-5 error on the test images, in percent.
        layers: of the deepest network with a published description; None where there is no network, or no one depth.
        source: where error and method are published.
    """

    year: int
    team: str
    method: str
    error: float
    layers: int | None
    source: str


_OVERVIEW = "Russakovsky et al. 2015"
WINNERS = (
    Winner(2010, "NEC-UIUC", "coded descriptors, linear SVM", 28.2, None, f"{_OVERVIEW}; Lin et al. 2011"),
    Winner(2011, "XRCE", "Fisher vectors, linear SVM", 25.8, None, f"{_OVERVIEW}; Sánchez & Perronnin 2011"),
    Winner(2012, "SuperVision", "AlexNet, 5 nets", 16.4, 8, f"{_OVERVIEW}; Krizhevsky et al. 2012"),
    Winner(2013, "Clarifai", "nets like ZFNet", 11.7, 8, f"{_OVERVIEW}; Zeiler & Fergus 2014"),
    Winner(2014, "GoogLeNet", "GoogLeNet, 7 nets", 6.7, 22, f"{_OVERVIEW}; Szegedy et al. 2015"),
    Winner(2015, "MSRA", "ResNet, 6 nets", 3.57, 152, "He et al. 2015, Table 5"),
    Winner(2016, "Trimps-Soushen", "Inceptions, ResNet, Wide ResNet", 2.99, None, "results page of ILSVRC 2016"),
    Winner(2017, "WMW", "SENet, several nets", 2.25, 154, "Hu et al. 2018"),
)
"""One entry a year. The contest of 2017 was the last."""

END = "The contest ends; its data move to Kaggle"
"""What happened after the contest of 2017."""

ANNOTATOR = 5.1
"""Top-5 error of one trained person on 1,500 of the test images, in percent (Russakovsky et al. 2015, section 6.4)."""

SECOND_ANNOTATOR = 12.0
"""The same of a second person, with less training, on 258 of the images."""


def winners_table() -> Table:
    """Return the winners as a table."""
    return Table(
        caption="Winners of ILSVRC, image classification",
        columns=(
            Column("year", numeric=False),
            *(Column("team", numeric=False), Column("made of", numeric=False)),
            *(Column("top-5 error", "%"), Column("layers"), Column("source", numeric=False)),
        ),
        rows=tuple((str(w.year), w.team, w.method, f"{w.error:g}", str(w.layers or "–"), w.source) for w in WINNERS),
        notes=(
            "On the test images of the contest, without further training data, all networks of the entry together.",
            f"One trained person: {ANNOTATOR:g} %, another: {SECOND_ANNOTATOR:g} % ({_OVERVIEW}, section 6.4).",
        ),
    )
