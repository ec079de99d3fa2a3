"""The trained weights that torchvision releases: what its own pages say of their errors. Nothing is downloaded.

The errors are torchvision's, of one network on one crop of each validation image of ImageNet. They come with the
package as data about the weights, so they can be read, counted and drawn without the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from cnnlib.studies import statistics
from cnnlib.table import Column, Table

PAPERS = {
    "alexnet": (2014, "Krizhevsky 2014"),
    "vgg": (2014, "Simonyan & Zisserman 2015"),
    "googlenet": (2014, "Szegedy et al. 2015"),
    "inception": (2015, "Szegedy et al. 2016"),
    "resnet": (2015, "He et al. 2016"),
    "wide_resnet": (2016, "Zagoruyko & Komodakis 2016"),
    "squeezenet": (2016, "Iandola et al. 2016"),
    "densenet": (2016, "Huang et al. 2017"),
    "resnext": (2016, "Xie et al. 2017"),
    "mobilenet_v2": (2018, "Sandler et al. 2018"),
    "shufflenet_v2": (2018, "Ma et al. 2018"),
    "mnasnet": (2018, "Tan et al. 2019"),
    "efficientnet_b": (2019, "Tan & Le 2019"),
    "mobilenet_v3": (2019, "Howard et al. 2019"),
    "regnet": (2020, "Radosavovic et al. 2020"),
    "vit": (2020, "Dosovitskiy et al. 2021"),
    "swin_": (2021, "Liu et al. 2021"),
    "swin_v2": (2021, "Liu, Hu et al. 2022"),
    "maxvit": (2022, "Tu et al. 2022"),
    "efficientnet_v2": (2021, "Tan & Le 2021"),
    "convnext": (2022, "Liu, Mao et al. 2022"),
}
"""Year of the first version and source of each architecture, by the beginning of its name in torchvision."""

TRANSFORMERS = ("vit", "swin", "maxvit")
"""The beginnings of the names of those that are not convolutional nets, or not in the main."""


@dataclass(frozen=True)
class Released:
    """One set of weights.

    Attributes:
        name: of the architecture in torchvision.
        weights: their name there. ``IMAGENET1K_V2`` are the same network trained anew with a later recipe.
        parameters: number of parameters.
        multiply_adds: for one image of ``size``, as torchvision counts them.
        size: side of the crop, in pixels.
        resize: length of the shorter side of the image from whose middle it is taken, in pixels.
        top1_error: on the validation images of ImageNet, one crop, in percent.
    """

    name: str
    weights: str
    parameters: int
    multiply_adds: float
    size: int
    resize: int
    top1_error: float

    @property
    def convolutional(self) -> bool:
        """Whether it is a convolutional net."""
        return not self.name.startswith(TRANSFORMERS)


def released(*names: str) -> list[Released]:
    """Return the weights that were trained on ImageNet alone, of these architectures or of all, in their order.

    Raises:
        ValueError: if torchvision has no such architecture.
    """
    from torchvision import models as zoo

    found = []
    for name in names or zoo.list_models(module=zoo):
        for weights in zoo.get_model_weights(name):
            meta = weights.meta
            error = 100 - meta["_metrics"]["ImageNet-1K"]["acc@1"]
            if weights.name.startswith("IMAGENET1K_V") and error < 100:
                (size,), (resize,) = (getattr(weights.transforms(), side) for side in ("crop_size", "resize_size"))
                counts = (meta["num_params"], meta["_ops"] * 1e9)
                found.append(Released(name, weights.name, *counts, size, resize, round(error, 3)))
    return found


def frontier(weights: Iterable[Released]) -> list[Released]:
    """Return those whose error no other equals or beats with as many multiply-adds or fewer; cheapest first."""
    return statistics.frontier(weights, cost=attrgetter("multiply_adds"), error=attrgetter("top1_error"))


def paper(name: str) -> tuple[int, str]:
    """Return the year and the source of an architecture of torchvision's.

    Raises:
        KeyError: if :data:`PAPERS` does not list it.
    """
    longest = max((start for start in PAPERS if name.startswith(start)), key=len, default=name)
    return PAPERS[longest]


def released_table(weights: Iterable[Released], caption: str) -> Table:
    """Return weights as a table, in the order given."""
    return Table(
        caption=caption,
        columns=(
            Column("network", numeric=False),
            *(Column("year"), Column("parameters", "M"), Column("multiply-adds", "G")),
            *(Column("image", "px"), Column("top-1 error", "%"), Column("source", numeric=False)),
        ),
        rows=tuple(
            (
                f"{one.name}, {one.weights.removeprefix('IMAGENET1K_')}",
                str(paper(one.name)[0]),
                f"{one.parameters / 1e6:.1f}",
                f"{one.multiply_adds / 1e9:.2f}",
                str(one.size),
                f"{one.top1_error:.2f}",
                paper(one.name)[1],
            )
            for one in weights
        ),
        notes=(
            "Errors of the weights that torchvision releases, by its own account: one network, one crop, ImageNet "
            "validation, trained on ImageNet alone. V1 and V2 are two trainings of the same network.",
        ),
    )
