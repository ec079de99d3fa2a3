"""Few images and a short study, so that a whole study takes a second."""

import dataclasses

import pytest
import torch

from cnnlib.data import shapes10
from cnnlib.studies import Arm, Scale, Study
from cnnlib.training import Recipe


@pytest.fixture(scope="session")
def shapes():
    """120 training and 60 test images."""
    return shapes10(train=120, test=60)


@pytest.fixture
def data(shapes):
    """The same images under the name of CIFAR-10: what the studies are about."""
    return dataclasses.replace(shapes, name="CIFAR-10")


@pytest.fixture
def stand_in(shapes):
    return dataclasses.replace(shapes, stands_in_for="CIFAR-10")


@pytest.fixture
def study():
    recipe = Recipe(name="test", epochs=20, batch_size=20, lr=0.01, milestones=(0.5,))
    return Study(
        name="test",
        question="Does it matter?",
        arms={
            "wide": Arm("alexnet-cifar", recipe, {"width": 0.125, "dropout": 0.0}),
            "narrow": Arm("alexnet-cifar", recipe, {"width": 0.0625, "dropout": 0.0}),
        },
        budgets={
            "smoke": Scale(steps=4, seeds=(0, 1), images=40),
            "short": Scale(steps=5),
            "full": Scale(),
        },
        subset=100,
        log_every=2,
        ensemble="wide",
    )


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
