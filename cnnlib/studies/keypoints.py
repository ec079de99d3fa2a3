"""Finding the joints of drawn figures: one small network, several modules between its two halves.

The network has the plan of UniPose (:mod:`cnnlib.models.unipose`): a backbone, a module that looks around at several
scales, and a decoder that joins its maps with earlier, finer ones and puts out a heatmap for each keypoint. Only the
module differs between the arms. The figures are generated (:mod:`cnnlib.data.poses`); nothing here is a result on
photographs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib import settings
from cnnlib.data.poses import JOINTS, SIDE, PoseSet, poses
from cnnlib.measure import count_parameters, multiply_adds
from cnnlib.models import layers
from cnnlib.models.unipose import POOLINGS, AtrousPooling, conv_bn_relu
from cnnlib.studies.comparison import refuse_twice, verdicts
from cnnlib.studies.errors import StudyError
from cnnlib.studies.statistics import LEGEND, summarise
from cnnlib.studies.study import require_sequences
from cnnlib.table import Column, Table
from cnnlib.training import Progress, hardware
from cnnlib.training.errors import check_at_least

WIDTH = 32
DILATIONS = (3, 2, 1)
"""WASP's 18, 12 and 6 in the same proportion, for maps of 10 by 10."""

CELL = 2
"""Pixels of the image, in each direction, for one value of a heatmap."""

NEAR = 3.0
"""A keypoint is found if the heatmap's peak lies within so many pixels of it."""


GROUPS = {"all joints": JOINTS, "trunk and head": JOINTS[:3], "hands": JOINTS[3:5], "feet": JOINTS[5:]}
"""The columns of the table, and the joints whose mean they give."""


def no_context(in_channels: int, out_channels: int, dilations: Sequence[int]) -> AtrousPooling:
    """Return the frame of WASP and ASPP around a single 1x1 convolution; ``dilations`` is not used."""
    return AtrousPooling(conv_bn_relu(in_channels, out_channels), in_channels, out_channels, out_channels)


ARMS: dict[str, Callable[[int, int, Sequence[int]], nn.Module]] = {"1x1 only": no_context, **POOLINGS}
"""The modules compared. All but the first have about the same number of parameters, since they read 32 maps only."""


class PoseNet(nn.Module):
    """Grey images (N, 1, 40, 40) to heatmaps, one a joint: (N, 7, 20, 20). A small relative of UniPose.

    ``arm`` is one of :data:`ARMS`. Dropout is switched off: these trainings are too short to overfit.

    Raises:
        StudyError: for another arm.
    """

    def __init__(self, arm: str):
        super().__init__()
        _check(arm)
        self.fine = nn.Sequential(halving(1, 16), conv_bn_relu(16, 16, 3))
        self.coarse = nn.Sequential(halving(16, WIDTH), conv_bn_relu(WIDTH, WIDTH, 3))
        self.pooling = ARMS[arm](WIDTH, WIDTH, DILATIONS)
        self.predict = nn.Sequential(conv_bn_relu(WIDTH + 16, 16, 3), nn.Conv2d(16, len(JOINTS), 1))
        layers.init_weights(self, nn.init.kaiming_normal_)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the heatmaps of a batch."""
        fine = self.fine(x)
        x = self.pooling(self.coarse(fine))
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return self.predict(torch.cat((x, fine), 1))


def _check(arm: str) -> None:
    if arm not in ARMS:
        raise StudyError(f"there is no module {arm!r}; there are {', '.join(ARMS)}")


def halving(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3 convolution of stride 2, batch normalisation and ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def as_input(images: Tensor) -> Tensor:
    """Return uint8 images as the network wants them: each with mean 0 and standard deviation 1."""
    pixels = images.float()
    deviation, mean = torch.std_mean(pixels, dim=(1, 2, 3), keepdim=True)
    return (pixels - mean) / deviation.clamp(min=1.0)


def targets(joints: Tensor) -> Tensor:
    """Return the heatmap that is wanted: a bell of sum 1 and deviation 1 cell at each joint, (N, 7, 20, 20)."""
    centres = CELL * torch.arange(SIDE // CELL, device=joints.device) + (CELL - 1) / 2
    x, y = ((centres - joints[..., axis, None]) / CELL for axis in (0, 1))
    bell = torch.exp(-(y[..., :, None] ** 2 + x[..., None, :] ** 2) / 2)
    return bell / bell.sum((2, 3), keepdim=True)


def heatmap_loss(heatmaps: Tensor, joints: Tensor) -> Tensor:
    """Return the cross-entropy between each wanted heatmap and the softmax of the network's over all its cells."""
    return -(targets(joints).flatten(2) * heatmaps.flatten(2).log_softmax(-1)).sum(-1).mean()


def peaks(heatmaps: Tensor) -> Tensor:
    """Return where each heatmap is largest: (N, 7, 20, 20) to x and y in pixels of the image, (N, 7, 2)."""
    at = heatmaps.flatten(2).argmax(-1)
    columns = heatmaps.shape[-1]
    cells = torch.stack((at % columns, at // columns), -1)
    return CELL * cells + (CELL - 1) / 2


def missed(found: Tensor, joints: Tensor) -> Tensor:
    """Return which keypoints were not found within :data:`NEAR` pixels, bool (N, 7). The mean of the rest is PCK."""
    return (found - joints).norm(dim=-1) > NEAR


@dataclass(frozen=True, eq=False, repr=False)
class PoseRun:
    """A finished training on drawn figures.

    Attributes:
        arm: one of :data:`ARMS`.
        seed: of the weights and of the order of the images.
        budget: the budget it was run at.
        steps: how many.
        parameters: of the whole network.
        multiply_adds: for one image.
        losses: (step, loss) along the training.
        errors: keypoints missed among the test figures, in percent, by the name of the joint.
        error: the mean of these.
        seconds: of the training.
        module: the trained network.
    """

    arm: str
    seed: int
    budget: str
    steps: int
    parameters: int
    multiply_adds: int
    losses: tuple[tuple[int, float], ...]
    errors: dict[str, float]
    error: float
    seconds: float
    module: nn.Module

    def mean_error(self, joints: Sequence[str]) -> float:
        """Return the mean of the errors of some joints, in percent."""
        return fmean(self.errors[name] for name in joints)


@dataclass(frozen=True)
class PoseScale:
    """What a budget means here: steps of 32 images, training figures, test figures and seeds."""

    steps: int
    train: int
    test: int
    seeds: tuple[int, ...] = (0, 1, 2)


SCALES = {
    "smoke": PoseScale(steps=2, train=64, test=32, seeds=(0,)),
    "short": PoseScale(steps=150, train=4000, test=500),
    "medium": PoseScale(steps=3000, train=20_000, test=2000),
    "full": PoseScale(steps=20_000, train=50_000, test=2000),
}
BATCH = 32
RATE = 3e-3


def train(arm: str, figures: PoseSet, test: PoseSet, steps: int, seed: int = 0, budget: str = "short") -> PoseRun:
    """Train one network on figures and test it on others. Adam, the learning rate falling to zero as a cosine.

    The loss is :func:`heatmap_loss`. UniPose takes the mean squared difference of heatmaps; nearly all of a heatmap is
    zero, and in so few steps a network that minimises it learns little more than that.

    Raises:
        StudyError: if there is no such arm.
        ArgumentError: if ``steps`` is not a positive whole number, or the seed is negative.
        UnknownBudget: if there is no such budget.
    """
    check_at_least(1, steps=steps)
    seed, budget = hardware.checked_seed(seed), settings.budget(budget)
    device = settings.device()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = PoseNet(arm).to(device)
    order = torch.Generator().manual_seed(seed)
    images, joints = as_input(figures.images.to(device)), figures.joints.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses, running, begin = [], [], time.monotonic()
    for step in range(1, steps + 1):
        chosen = torch.randint(len(figures), (BATCH,), generator=order).to(device)
        loss = heatmap_loss(net(images[chosen]), joints[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running.append(loss.detach())
        if step % max(1, steps // 20) == 0:
            losses.append((step, torch.stack(running).mean().item()))
            running = []
    seconds = time.monotonic() - begin
    wrong = 100 * missed(locate(net, test.images), test.joints).float().mean(0)
    return PoseRun(
        arm=arm,
        seed=seed,
        budget=budget,
        steps=steps,
        parameters=count_parameters(net),
        multiply_adds=multiply_adds(net, (1, SIDE, SIDE)),
        losses=tuple(losses),
        errors=dict(zip(JOINTS, wrong.tolist(), strict=True)),
        error=wrong.mean().item(),
        seconds=seconds,
        module=net.eval(),
    )


@torch.no_grad()
def locate(net: nn.Module, images: Tensor) -> Tensor:
    """Return where a trained network finds the joints: uint8 images (N, 1, 40, 40) to pixels (N, 7, 2), on the CPU."""
    device = next(net.parameters()).device
    net.eval()
    return torch.cat([peaks(net(as_input(part.to(device)))).cpu() for part in images.split(250)])


def run(*, budget: str | None = None, arms: Sequence[str] | None = None, progress: bool = True) -> list[PoseRun]:
    """Train every arm once a seed, and return the runs, arm by arm.

    Training figures are drawn with seed 0, test figures with seed 1.

    Args:
        budget: smoke, short, medium or full; default the budget in force (:func:`cnnlib.budget`).
        arms: labels, each counts once; default all.
        progress: False shows none.

    Raises:
        StudyError: if there is no such arm, or one is given by itself and not in a sequence.
    """
    require_sequences(None, arms)
    budget = settings.budget(budget)
    scale = SCALES[budget]
    labels = dict.fromkeys(ARMS if arms is None else arms)
    for label in labels:
        _check(label)
    figures, test = poses(scale.train, seed=0), poses(scale.test, seed=1)
    tasks = [(arm, seed) for arm in labels for seed in scale.seeds]
    runs, display = [], Progress(progress)
    try:
        with display.start(f"keypoints: {len(tasks)} trainings", len(tasks) * scale.steps, 0) as bar:
            for arm, seed in tasks:
                runs.append(train(arm, figures, test, scale.steps, seed, budget))
                bar.update(scale.steps)
    finally:
        display.close()
    return runs


def table(runs: Sequence[PoseRun]) -> Table:
    """Return the runs as a table: one row an arm, keypoints missed as mean ± standard deviation (number of seeds).

    The notes rank nothing whose intervals overlap, as those of :func:`cnnlib.studies.compare`.

    Raises:
        StudyError: if there are no runs, if they are not of one length, or if one is there twice.
    """
    if len({(run.budget, run.steps) for run in runs}) != 1:
        raise StudyError("a table needs runs of one budget and of one length")
    refuse_twice((run.budget, run.arm, run.seed) for run in runs)
    groups: dict[str, list[PoseRun]] = {}
    for one in runs:
        groups.setdefault(one.arm, []).append(one)

    def cell(group: Sequence[PoseRun], joints: Sequence[str]) -> str:
        return f"{summarise([one.mean_error(joints) for one in group])} ({len(group)})"

    first = runs[0]
    return Table(
        caption=f"Which module finds joints best? Generated stick figures, {first.budget}: {first.steps:,} steps",
        columns=(
            *(Column("", numeric=False), Column("parameters"), Column("multiply-adds")),
            *(Column(f"{name}: missed", "%") for name in GROUPS),
        ),
        rows=tuple(
            (
                arm,
                f"{group[0].parameters:,}",
                f"{group[0].multiply_adds:,}",
                *(cell(group, joints) for joints in GROUPS.values()),
            )
            for arm, group in groups.items()
        ),
        notes=(
            *verdicts(
                "missed, all joints", {arm: summarise([one.error for one in group]) for arm, group in groups.items()}
            ),
            f"Missed: the peak of the heatmap is more than {NEAR:g} pixels from the keypoint. PCK is 100 % minus this.",
            LEGEND,
        ),
    )
