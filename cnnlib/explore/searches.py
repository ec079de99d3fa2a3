"""The figure of what searches proposed: rewards, entropy, operations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import numpy as np
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies.search import ARMS, SearchRun

_LIGHT = style.PALETTE["light"]
_BINS = 10


def search_history(runs: Sequence[SearchRun], *, title: str | None = None) -> Figure:
    """Draw what came of the proposals along the search, one line a way to search, and which operations were proposed.

    Rewards and entropies are means over a tenth of the proposals; lines are means over seeds, bands one standard
    deviation. Operations are those of the last quarter of the proposals.

    Args:
        runs: searches of one budget, with a history.
        title: of the figure; by default the budget, with the number of seeds.

    Raises:
        NothingToDraw: if there are none, or they are of several budgets.
    """
    groups = {arm: [run for run in runs if run.arm == arm and run.found.history] for arm in ARMS}
    groups = {arm: group for arm, group in groups.items() if group}
    if not groups:
        raise NothingToDraw("search_history needs at least one search with a history")
    if len({run.budget for group in groups.values() for run in group}) > 1:
        raise NothingToDraw("search_history needs searches of one budget; pass load_records('short'), say")
    facts = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        rewards, entropies, operations = figure.subplots(1, 3)
        apart = 0.6 / len(groups)
        for index, (arm, group) in enumerate(groups.items()):
            colour = _LIGHT[style.ACCENTS[index]]
            kind = {"color": colour, "linestyle": style.DASHES[index], "marker": style.MARKERS[index], "markersize": 4}
            for axes, name, factor in ((rewards, "reward", 100), (entropies, "entropy", 1)):
                steps, mean, deviation = _curve(group, name)
                axes.plot(steps, factor * mean, label=ARMS[arm], **kind)
                low, high = factor * (mean - deviation), factor * (mean + deviation)
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
            shares = _shares(group)
            places = np.arange(len(shares)) + apart * (index - (len(groups) - 1) / 2)
            operations.plot([100 * share for share in shares.values()], places, **kind | {"linestyle": "none"})
            reward = 100 * _curve(group, "reward")[1]
            most = max(shares, key=shares.get)
            facts.append(
                f"{ARMS[arm]}: mean reward from {reward[0]:.1f} to {reward[-1]:.1f} %, entropy at the end "
                f"{_curve(group, 'entropy')[1][-1]:.1f}, most frequent operation {most}, {shares[most]:.0%}"
            )
        rewards.set_title("mean reward, %")
        entropies.set_title("entropy, nats")
        operations.set_title("operations, %")
        for axes in (rewards, entropies):
            axes.set_xlabel("training step")
            axes.set_ylim(bottom=0)
        operations.set_yticks(np.arange(len(shares)), list(shares))
        operations.invert_yaxis()
        operations.set_xlim(left=0)
        rewards.legend(loc="lower right", fontsize=8)
        counts = {len(group) for group in groups.values()}
        several = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        title = title or f"{runs[0].run.data}, {runs[0].budget}, {several} seed{'s' if max(counts) > 1 else ''}"
        figure.suptitle(title, ha="left", x=0.01)
    figure.set_label(f"Proposals of searches. {'; '.join(facts)}.")
    return figure


def _curve(group: Sequence[SearchRun], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, and mean and deviation over seeds of the means over parts of the history."""
    count = min(_BINS, *(len(run.found.history) for run in group))
    parts = [np.array_split(np.array([getattr(r, name) for r in run.found.history]), count) for run in group]
    steps = [part.mean() for part in np.array_split(np.array([r.step for r in group[0].found.history]), count)]
    values = np.array([[part.mean() for part in run] for run in parts])
    deviation = values.std(0, ddof=1) if len(group) > 1 else np.zeros(count)
    return np.array(steps), values.mean(0), deviation


def _shares(group: Sequence[SearchRun]) -> dict[str, float]:
    """Return how often each operation was proposed in the last quarter of the rounds; mean over seeds."""
    each = []
    for run in group:
        last = run.found.history[-max(1, len(run.found.history) // 4) :]
        counts = {name: sum(r.operations[name] for r in last) for name in last[0].operations}
        each.append({name: count / sum(counts.values()) for name, count in counts.items()})
    return {name: statistics.fmean(one[name] for one in each) for name in each[0]}
