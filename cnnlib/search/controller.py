"""Who proposes cells: a recurrent network that learns from rewards by REINFORCE, or nobody in particular.

Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning" (arXiv 1611.01578), sections 3.1 and 3.2. As
there, one softmax for each decision reads the state of an LSTM, and the option that was drawn is what the LSTM reads
next; the baseline is a moving average of the rewards. NASNet replaces REINFORCE by proximal policy optimisation; as
there, all parameters start between -0.1 and 0.1. The entropy that ENAS adds to the reward is that of the proposals.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.search.space import Space, SpaceError
from cnnlib.training.hardware import stream

WEIGHTS, PROPOSALS = 10, 11
"""Streams of random numbers, see :func:`cnnlib.training.hardware.stream`; others are in engine.py and batches.py."""


class Controller(nn.Module):
    """Decisions (N, T) to the logarithm of the probability with which it makes them, (N,), and an entropy, (N,).

    The entropy is the sum of those of the T softmaxes on the way, in nats. Its mean over proposals estimates the
    entropy of the distribution of sequences; that of cells is smaller, since many sequences describe the same cell.

    Raises:
        SpaceError: if ``hidden``, the size of the state, is not a whole number of at least 1.
    """

    def __init__(self, space: Space, hidden: int = 32):
        super().__init__()
        require_whole(SpaceError, 1, hidden=hidden)
        self.space = space
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.start = nn.Parameter(torch.empty(hidden))
        self.options = nn.ModuleList(nn.Embedding(count, hidden) for count in space.choices)
        self.heads = nn.ModuleList(nn.Linear(hidden, count) for count in space.choices)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, decisions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logarithms of probabilities and entropies of given decisions."""
        _, log_probs, entropy = self._decide(len(decisions), lambda place, _: decisions[:, place])
        return log_probs, entropy

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Propose cells. Return decisions, int64 (count, T), and for them what ``forward`` returns.

        Raises:
            SpaceError: if ``count`` is not a whole number of at least 0.
        """
        require_whole(SpaceError, 0, count=count)
        return self._decide(
            count, lambda _, log_probs: torch.multinomial(log_probs.detach().exp(), 1, generator=generator).flatten()
        )

    def _decide(self, count: int, pick: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        read, state = self.start.expand(count, -1), None
        picked, log_prob, entropy = [], torch.zeros(count), torch.zeros(count)
        for place, (head, options) in enumerate(zip(self.heads, self.options, strict=True)):
            state = self.lstm(read, state)
            log_probs = head(state[0]).log_softmax(-1)
            picked.append(pick(place, log_probs))
            log_prob = log_prob + log_probs.gather(1, picked[-1][:, None])[:, 0]
            entropy = entropy - (log_probs.exp() * log_probs).sum(-1)
            read = options(picked[-1])
        return torch.stack(picked, 1), log_prob, entropy


def policy_loss(log_probs: Tensor, rewards: Tensor, baseline: float, entropy_weight: float = 0.0) -> Tensor:
    """Return the loss of REINFORCE, whose gradient is an unbiased estimate of minus that of the expected reward.

    With a weight, of the expected reward plus ``entropy_weight`` times the entropy of the proposals: a rare proposal is
    worth a little more. The baseline must not depend on these rewards.

    Args:
        log_probs: of the proposals, (N,), as :class:`Controller` returns them.
        rewards: of the proposals, (N,).
        baseline: what a proposal usually gets.
        entropy_weight: 0 for none.

    Raises:
        SpaceError: if there is not one reward for each proposal.
    """
    if rewards.shape != log_probs.shape:
        raise SpaceError(
            f"each proposal has one reward: {tuple(rewards.shape)} do not go with {tuple(log_probs.shape)}"
        )
    worth = rewards - entropy_weight * log_probs.detach() - baseline
    return -(worth * log_probs).mean()


class Uniform:
    """Proposes every sequence of decisions with the same probability, whatever came of others."""

    def __init__(self, space: Space, seed: int):
        self.space = space
        self.generator = torch.Generator().manual_seed(stream(seed, PROPOSALS))
        self.entropy = float(torch.tensor(space.choices).double().log().sum())

    def propose(self, count: int) -> list[tuple[int, ...]]:
        """Return the decisions of so many cells.

        Raises:
            SpaceError: if ``count`` is not a whole number of at least 0.
        """
        require_whole(SpaceError, 0, count=count)
        drawn = [torch.randint(options, (count,), generator=self.generator) for options in self.space.choices]
        return [tuple(one) for one in torch.stack(drawn, 1).tolist()]

    def learn(self, decisions: list[tuple[int, ...]], rewards: list[float]) -> None:
        """Do nothing."""


class Policy(Uniform):
    """Proposes what its controller draws, and learns from the rewards by REINFORCE.

    Args:
        space: the cells.
        seed: of the controller's weights and of the proposals.
        lr: learning rate of Adam.
        decay: of the moving average that is the baseline.
        baseline: where it begins.
        entropy_weight: as for :func:`policy_loss`.
        hidden: size of the controller's state.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        lr: float = 0.0035,
        decay: float = 0.9,
        baseline: float = 0.0,
        entropy_weight: float = 0.001,
        hidden: int = 32,
    ):
        super().__init__(space, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream(seed, WEIGHTS))
            self.controller = Controller(space, hidden)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=lr)
        self.decay, self.baseline, self.entropy_weight = decay, baseline, entropy_weight

    @torch.no_grad()
    def propose(self, count: int) -> list[tuple[int, ...]]:
        """Return the decisions of so many cells, and note their entropy."""
        decisions, _, entropy = self.controller.sample(count, self.generator)
        self.entropy = entropy.mean().item()
        return [tuple(one) for one in decisions.tolist()]

    def learn(self, decisions: list[tuple[int, ...]], rewards: list[float]) -> None:
        """Take one step uphill, then move the baseline."""
        log_probs, _ = self.controller(torch.tensor(decisions))
        loss = policy_loss(log_probs, torch.tensor(rewards), self.baseline, self.entropy_weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.baseline += (1 - self.decay) * (sum(rewards) / len(rewards) - self.baseline)
