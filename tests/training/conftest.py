"""A tiny data set and a tiny network, so that a whole training takes a fraction of a second."""

import pytest
import torch
from torch import nn

from cnnlib.data import ImageSet
from cnnlib.training import Recipe, hardware


def make_tiny_data(train: int = 96, test: int = 40, size: int = 16, seed: int = 0) -> ImageSet:
    """Noise whose colour tells the class most of the time."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        labels = torch.arange(count) % 4
        colours = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [160, 160, 160]])[labels]
        noise = torch.randint(-50, 51, (count, 3, size, size), generator=generator)
        return (colours[:, :, None, None] + noise).clamp(0, 255).to(torch.uint8), labels

    train_images, train_labels = draw(train)
    test_images, test_labels = draw(test)
    return ImageSet(
        name="CIFAR-10",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=("red", "green", "blue", "grey"),
        mean=(0.47, 0.47, 0.47),
        std=(0.25, 0.25, 0.25),
        origin="drawn for a test",
    )


class Tiny(nn.Module):
    """A convolution, batch normalisation, dropout and a linear layer: everything that has state or draws numbers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


def make_plain():
    """A network that draws nothing and looks at each image by itself."""
    torch.manual_seed(8)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)
    )


@pytest.fixture
def plain():
    return make_plain()


@pytest.fixture
def tiny_data():
    return make_tiny_data


@pytest.fixture
def data():
    return make_tiny_data()


@pytest.fixture
def tiny():
    torch.manual_seed(7)
    return Tiny()


@pytest.fixture
def recipe():
    return Recipe(
        name="test", epochs=4, batch_size=16, lr=0.05, weight_decay=1e-4, milestones=(0.5,), warmup=0.1, warmup_lr=0.01
    )


@pytest.fixture(autouse=True)
def _two_threads_are_not_needed():
    """Every test runs with one thread, and leaves no other number behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _fp32_unless_asked(monkeypatch):
    """Every test trains in fp32, whatever the processor is fastest in."""
    monkeypatch.setattr(hardware, "precision_for", lambda device: "fp32")
