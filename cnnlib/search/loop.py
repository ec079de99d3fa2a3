"""The search itself: who proposes cells, how they get their weights, what it costs.

Two choices make four ways to search (:data:`WAYS`). Cells are proposed by a controller that learns, or at random; and
each cell is trained from scratch for a little while, or all are trained together with shared weights. Controller and
own weights is Zoph and Le 2017 (arXiv 1611.01578); controller and shared weights is ENAS (Pham et al. 2018, arXiv
1802.03268); the random ones are the baselines of Li and Talwalkar 2019 (arXiv 1902.07638). All four train on the same
number of images. The two with shared weights also look at the same number of validation images.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.errors import CnnlibError, require_whole
from cnnlib.models.cells import Plan
from cnnlib.search.controller import Policy, Uniform
from cnnlib.search.shared import SharedNet, batch_statistics, network
from cnnlib.search.space import Space
from cnnlib.training import Progress, Recipe, predict
from cnnlib.training.batches import Batches
from cnnlib.training.hardware import reproducible, stream
from cnnlib.training.memory import kept
from cnnlib.training.step import Step

REWARD_BATCH = 250
"""Images at a time for rewards: the networks normalise with the statistics of the batch, on every device the same."""
SPLIT, NETWORK = 12, 13
"""Streams of random numbers, see :func:`cnnlib.training.hardware.stream`; others are in controller.py."""


class SearchError(CnnlibError, ValueError):
    """A search that cannot be run as it was asked for."""


class Way(NamedTuple):
    """How to search: with a controller that learns or at random, with shared weights or with own ones."""

    controller: bool
    shared: bool


WAYS = {
    "nas": Way(controller=True, shared=False),
    "random-own": Way(controller=False, shared=False),
    "enas": Way(controller=True, shared=True),
    "random-shared": Way(controller=False, shared=True),
}


@dataclass(frozen=True)
class Effort:
    """What a search may spend, whichever way it searches.

    Attributes:
        steps: training steps: of the shared weights, or of all children together.
        batch_size: images of a training step, and those that a proposal is rewarded on while weights are shared.
        lr: learning rate of the weights.
        controller_lr: of the controller.
        warmup: the share of the steps before the first proposal is rewarded, while weights are shared.
        updates: how often proposals are rewarded while weights are shared.
        proposals: how many each time.
        candidates: how many cells are compared on all validation images in the end, with shared weights.
        children: how many networks are trained instead, one after the other, with own weights.
        train: images to train on, for :func:`split`; :func:`search` itself takes those of its ``parts``.
        validation: other training images, for the rewards; likewise.
        channels: as for :func:`cnnlib.search.network`.

    Raises:
        SearchError: if a count is below 1, a learning rate not positive, the warm-up leaves no step, or the children do
            not share the steps equally.
    """

    steps: int
    batch_size: int = 64
    lr: float = 0.05
    controller_lr: float = 0.0035
    warmup: float = 0.2
    updates: int = 60
    proposals: int = 5
    candidates: int = 20
    children: int = 10
    train: int = 10_000
    validation: int = 1000
    channels: int = 8

    def __post_init__(self) -> None:
        counts = "steps batch_size updates proposals candidates children train validation channels"
        require_whole(SearchError, 1, **{name: getattr(self, name) for name in counts.split()})
        for name in ("lr", "controller_lr"):
            if not (isinstance(value := getattr(self, name), Real) and 0 < value < math.inf):
                raise SearchError(f"{name} must be a finite number above 0, not {value!r}")
        if not (isinstance(self.warmup, Real) and math.isfinite(self.warmup)):
            raise SearchError(f"warmup must be a share of the steps, not {self.warmup!r}")
        if not 0 <= self._warmup_steps < self.steps:
            raise SearchError(f"a warm-up of {self.warmup:g} of {self.steps} steps leaves none for what follows it")
        if self.steps % self.children:
            raise SearchError(f"{self.steps} steps cannot be shared equally among {self.children} children")

    @property
    def recipe(self) -> Recipe:
        """How weights are trained."""
        return Recipe("search", batch_size=self.batch_size, lr=self.lr, iterations=self.steps, weight_decay=1e-4)

    def due(self, step: int) -> int:
        """Return how many updates must have been made after so many training steps."""
        start = self._warmup_steps
        return self.updates * max(0, step - start) // (self.steps - start)

    @property
    def _warmup_steps(self) -> int:
        return round(self.warmup * self.steps)


@dataclass(frozen=True)
class Round:
    """Some proposals and what came of them.

    Attributes:
        step: training steps done by then.
        reward: mean share of right answers on validation images.
        entropy: of the proposals, in nats.
        operations: how often each operation was proposed.
    """

    step: int
    reward: float
    entropy: float
    operations: dict[str, int]


@dataclass(frozen=True)
class Found:
    """What a search found and what it cost.

    Attributes:
        plan: the cell.
        reward: the share of right answers that it was chosen for.
        history: of the proposals.
        candidates: the cells that it was chosen among, with their rewards.
        cells: how many networks got a reward, in all.
        trained_images: shown in training steps.
        validated_images: looked at for rewards.
        seconds: of the search.
    """

    plan: Plan
    reward: float
    history: tuple[Round, ...]
    candidates: tuple[tuple[Plan, float], ...]
    cells: int
    trained_images: int
    validated_images: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Split:
    """Training images in two parts. ``data`` has the first as its training set, and no test images at all."""

    data: ImageSet
    images: Tensor
    labels: Tensor


def split(data: ImageSet, train: int, validation: int, seed: int = 0) -> Split:
    """Divide training images at random into a part to train on and one for the rewards. Test images are left out.

    Raises:
        SearchError: if there are too few, or a part is to have none, or a broken number of them.
        ArgumentError: if ``seed`` is no whole number from 0.
    """
    count = len(data.train_labels)
    require_whole(SearchError, 1, train=train, validation=validation)
    if train + validation > count:
        raise SearchError(
            f"{train:,} and {validation:,} images are wanted, and the training set of {data.name} has {count:,}"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(stream(seed, SPLIT)))
    order = order.to(data.train_labels.device)
    chosen, other = order[:train], order[train : train + validation]
    rest = replace(
        data,
        train_images=data.train_images[chosen],
        train_labels=data.train_labels[chosen],
        test_images=data.test_images[:0],
        test_labels=data.test_labels[:0],
    )
    return Split(rest, data.train_images[other], data.train_labels[other])


def search(
    way: str,
    parts: Split,
    effort: Effort,
    *,
    space: Space | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Found:
    """Look for a good cell.

    The same seed gives the same cell on the same machine with the same number of threads.

    Args:
        way: one of :data:`WAYS`.
        parts: images, see :func:`split`.
        effort: what to spend.
        space: the cells; default three nodes.
        seed: of weights, proposals, order and augmentation.
        progress: where to show it; default nowhere.

    Raises:
        SearchError: if there is no such way, or ``parts`` or ``effort`` are of another kind.
        cnnlib.training.ArgumentError: if ``seed`` is no whole number, 0 or more.
        cnnlib.training.RecipeError: if a batch has more images than ``parts`` has to train on.
    """
    if not (isinstance(parts, Split) and isinstance(effort, Effort)):
        raise SearchError("search needs parts, as split(data, train, validation) makes them, and an Effort")
    if not isinstance(way, str) or way not in WAYS:
        raise SearchError(f"there is no way {way!r} to search; there are {', '.join(WAYS)}")
    device = settings.device()
    parts = Split(parts.data.to(device), parts.images.to(device), parts.labels.to(device))
    display = progress or Progress(False)
    with reproducible(device), kept(device):
        begin = time.monotonic()
        one = _Search(WAYS[way], parts, effort, space or Space(), seed, device)
        with display.start(f"{way}, seed {seed}", effort.steps, 0) as bar:
            best, candidates = one.with_shared_weights(bar) if WAYS[way].shared else one.with_own_weights(bar)
        return Found(
            *candidates[best],
            history=tuple(one.history),
            candidates=tuple(candidates),
            cells=one.cells,
            trained_images=one.trained,
            validated_images=one.validated,
            seconds=time.monotonic() - begin,
        )


Rated = list[tuple[Plan, float]]


class _Search:
    def __init__(self, way: Way, parts: Split, effort: Effort, space: Space, seed: int, device: torch.device):
        self.parts, self.effort, self.space, self.seed, self.device = parts, effort, space, seed, device
        self.recipe, self.classes = effort.recipe, len(parts.data.classes)
        if way.controller:
            self.proposer = Policy(space, seed, lr=effort.controller_lr, baseline=1 / self.classes)
        else:
            self.proposer = Uniform(space, seed)
        self.batches = Batches(parts.data, self.recipe, seed)
        self.history: list[Round] = []
        self.cells = self.trained = self.validated = 0

    def with_shared_weights(self, bar: tqdm) -> tuple[int, Rated]:
        """Train one network of all cells; in between reward proposals on a validation batch each."""
        effort = self.effort
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream(self.seed, NETWORK))
            net = SharedNet(self.space, effort.channels, self.classes)
        net = net.to(self.device, memory_format=torch.channels_last)
        step = self._step(net)
        for done in range(effort.steps):
            (decisions,) = self.proposer.propose(1)
            net.choose(self.space.plan(decisions)).train()
            self._train(step, done, self.recipe.lr)
            while len(self.history) < effort.due(done + 1):
                proposed = self.proposer.propose(effort.proposals)
                rewards = torch.stack([self._batch_reward(net, one, self.cells + i) for i, one in enumerate(proposed)])
                self._learn(done + 1, proposed, rewards.tolist())
            bar.update()
        plans = [self.space.plan(one) for one in self.proposer.propose(effort.candidates)]
        self.cells += len(plans)
        rated = [(plan, self._reward(net.choose(plan))) for plan in plans]
        return _best(rated), rated

    def with_own_weights(self, bar: tqdm) -> tuple[int, Rated]:
        """Train one network after the other, each from scratch, and reward it on all validation images."""
        each = self.effort.steps // self.effort.children
        rated: Rated = []
        for child in range(self.effort.children):
            (decisions,) = self.proposer.propose(1)
            plan = self.space.plan(decisions)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(stream(self.seed, NETWORK, child))
                net = batch_statistics(network(plan, self.effort.channels, self.classes))
            net = net.to(self.device, memory_format=torch.channels_last)
            step = self._step(net)
            for done in range(child * each, (child + 1) * each):
                self._train(step, done, self.recipe.lr)
                bar.update()
            rated.append((plan, self._reward(net)))
            self._learn((child + 1) * each, [decisions], [rated[-1][1]])
        return _best(rated), rated

    def _step(self, net: nn.Module) -> Step:
        return Step(net, self.recipe, self.parts.data, "fp32", compiled=False)

    def _train(self, step: Step, number: int, lr: float) -> None:
        step(*self.batches[number], lr)
        self.trained += self.effort.batch_size

    def _batch_reward(self, net: SharedNet, decisions: Sequence[int], number: int) -> Tensor:
        """Return the share of right answers on the next batch of validation images."""
        size = min(self.effort.batch_size, len(self.parts.labels))
        start = number * size % (len(self.parts.labels) - size + 1)
        return self._right(net.choose(self.space.plan(decisions)), slice(start, start + size))

    def _reward(self, net: nn.Module) -> float:
        """Return the share of right answers on all validation images."""
        return self._right(net, slice(None)).item()

    def _right(self, net: nn.Module, which: slice) -> Tensor:
        images, labels = self.parts.images[which], self.parts.labels[which]
        self.validated += len(labels)
        logits = predict(net, images, self.parts.data, batch_size=REWARD_BATCH)
        return (logits.argmax(1) == labels).float().mean()

    def _learn(self, step: int, proposed: list[tuple[int, ...]], rewards: list[float]) -> None:
        entropy = self.proposer.entropy
        self.proposer.learn(proposed, rewards)
        self.cells += len(proposed)
        plans = map(self.space.plan, proposed)
        counts = Counter(name for plan in plans for node in plan.nodes for name, _ in node)
        operations = {name: counts[name] for name in self.space.operations}
        self.history.append(Round(step, sum(rewards) / len(rewards), entropy, operations))


def _best(rated: Rated) -> int:
    return max(range(len(rated)), key=lambda index: rated[index][1])
