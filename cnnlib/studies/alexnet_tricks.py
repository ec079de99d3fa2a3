"""AlexNet's tricks one by one, on a network small enough for a laptop: ReLU, dropout, augmentation, an ensemble.

Krizhevsky, Sutskever and Hinton 2012, sections 3.1 (ReLU), 4.1 (augmentation), 4.2 (dropout) and 6 (ensembles).

The network is ``alexnet-cifar`` at half width, 0.2 million parameters. Learning rates and lengths were chosen by the
error on training images, 5,000 of which were held out for this purpose; the test set had no part in it. All of it is
in single precision, so that every machine can add seeds to the records.
"""

from __future__ import annotations

from typing import Any

from cnnlib.studies.study import Arm, Scale, Study, register
from cnnlib.training import Recipe, Run

_FIGURE_1 = Recipe(
    name="alexnet-figure-1",
    epochs=40,
    batch_size=128,
    lr=0.01,
    augment=False,
    source="Krizhevsky et al. 2012, Figure 1",
    deviations=(
        "the paper chooses a learning rate for each network and prints neither; here both have the same, which for "
        "either is the better of 0.01 and 0.02, or as good. No regularisation of any kind, as in the paper"
    ),
)


def _arm(recipe: Recipe, **overrides: Any) -> Arm:
    return Arm("alexnet-cifar", recipe, {**overrides, "width": 0.5}, precision="fp32")


RELU = register(
    Study(
        name="relu-against-tanh",
        question="Does a network learn faster with ReLU than with tanh?",
        arms={name.lower(): _arm(_FIGURE_1, activation=f"nn.{name}", dropout=0.0) for name in ("ReLU", "Tanh")},
        budgets={
            "smoke": Scale(steps=6, seeds=(0, 1), images=500),
            "short": Scale(steps=2500),
            "medium": Scale(epochs=20),
            "full": Scale(),
        },
        log_every=50,
        ensemble="relu",
    )
)
"""Section 3.1 on all training images; the networks with ReLU are also averaged into an ensemble."""

_OVERFITTING = Recipe(
    name="overfitting",
    epochs=200,
    batch_size=128,
    lr=0.01,
    milestones=(0.75,),
    augment=False,
    source="ours",
)
_AUGMENTED = _OVERFITTING.replace(name="overfitting, augmented", augment=True)

REGULARISATION = register(
    Study(
        name="dropout-and-augmentation",
        question="What do dropout and augmentation do against overfitting?",
        arms={
            "neither": _arm(_OVERFITTING, dropout=0.0),
            "dropout": _arm(_OVERFITTING, dropout=0.5),
            "augmentation": _arm(_AUGMENTED, dropout=0.0),
            "both": _arm(_AUGMENTED, dropout=0.5),
        },
        budgets={
            "smoke": Scale(steps=6, seeds=(0, 1), images=500),
            "short": Scale(epochs=60),
            "medium": Scale(epochs=120),
            "full": Scale(),
        },
        subset=5000,
        evaluate_every=10,
    )
)
"""Sections 4.1 and 4.2 where overfitting occurs: many passes over 5,000 images.

In a short training on all images regularisation only slows the network down, and seems to do harm."""


def steps_to(run: Run, train_error: float) -> int | None:
    """Return the step at which the learning curve first is at or below a training error in percent, as in Figure 1.

    None if the training ended before. The curve's points are means over the steps since the point before, so the
    answer is exact to the study's ``log_every``.
    """
    return next((point.step for point in run.history if point.train_error <= train_error), None)
