"""Few images, and one thread."""

import dataclasses

import pytest
import torch

from cnnlib.data import shapes10


@pytest.fixture(scope="session")
def images():
    """Generated images under the name of CIFAR-10: 200 to train on, 60 to test."""
    return dataclasses.replace(shapes10(train=200, test=60), name="CIFAR-10")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
