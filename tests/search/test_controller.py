"""The controller: its probabilities, its gradient against the exact one, and that it learns."""

import math
from collections import Counter

import pytest
import torch

from cnnlib.search import Controller, Policy, Space, SpaceError, Uniform, policy_loss

TINY = Space(1, ("sep3x3", "max3x3", "identity"))


@pytest.fixture
def controller():
    torch.manual_seed(0)
    made = Controller(TINY, hidden=6)
    with torch.no_grad():
        for parameter in made.parameters():  # far from uniform
            parameter.mul_(8)
    return made


@pytest.fixture
def everything():
    """All sequences of decisions, and a reward for each."""
    decisions = torch.tensor(list(TINY))
    return decisions, torch.rand(len(decisions), generator=torch.Generator().manual_seed(1))


def identities(decisions) -> list[float]:
    """A reward that is known: the share of identities among a cell's steps."""
    kinds = torch.tensor(decisions)[:, 1::2]
    return (kinds == TINY.operations.index("identity")).float().mean(1).tolist()


def gradient(value, controller):
    grads = torch.autograd.grad(value, list(controller.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


def test_probabilities_add_up_to_one(controller, everything):
    log_probs, _ = controller(everything[0])
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert log_probs.exp().max() > 3 * log_probs.exp().min()


def test_the_mean_entropy_is_that_of_the_distribution(controller, everything):
    log_probs, entropy = controller(everything[0])
    exact = -(log_probs.exp() * log_probs).sum()
    torch.testing.assert_close((log_probs.exp() * entropy).sum(), exact)


def test_what_is_drawn_follows_the_probabilities(controller, everything):
    log_probs, _ = controller(everything[0])
    count = 20_000
    drawn, said, _ = controller.sample(count, torch.Generator().manual_seed(2))
    torch.testing.assert_close(said, controller(drawn)[0])
    counts = Counter(map(tuple, drawn.tolist()))
    for decisions, probability in zip(everything[0].tolist(), log_probs.exp().tolist(), strict=True):
        spread = math.sqrt(count * probability * (1 - probability))
        assert abs(counts[tuple(decisions)] - count * probability) < 5 * spread + 1


@pytest.mark.parametrize("baseline", [0.0, 0.4, 5.0])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_reinforce_is_unbiased_whatever_the_baseline(controller, everything, baseline, weight):
    """Its mean over all proposals, each with its probability, is the gradient of the expected reward."""
    decisions, rewards = everything
    log_probs, _ = controller(decisions)
    expected = (log_probs.exp() * (rewards - weight * log_probs)).sum()
    exact = gradient(expected, controller)
    probabilities = log_probs.exp().detach()
    losses = [
        policy_loss(log_probs[i : i + 1], rewards[i : i + 1], baseline, weight) for i in range(len(probabilities))
    ]
    estimate = gradient(-(probabilities * torch.stack(losses)).sum(), controller)
    torch.testing.assert_close(estimate, exact, rtol=1e-3, atol=1e-5)
    assert exact.abs().max() > 1e-3


def test_sampled_gradients_approach_the_exact_one(controller, everything):
    decisions, rewards = everything
    log_probs, _ = controller(decisions)
    exact = gradient((log_probs.exp() * rewards).sum(), controller)
    table = {tuple(one): reward for one, reward in zip(decisions.tolist(), rewards.tolist(), strict=True)}
    drawn, said, _ = controller.sample(20_000, torch.Generator().manual_seed(3))
    got = torch.tensor([table[tuple(one)] for one in drawn.tolist()])
    estimate = -gradient(policy_loss(said, got, baseline=0.5), controller)
    assert (estimate - exact).norm() < 0.1 * exact.norm()


def test_each_proposal_has_one_reward():
    """Of other shapes each reward would count for each proposal."""
    with pytest.raises(SpaceError, match=r"each proposal has one reward: \(3, 1\) do not go with \(3,\)"):
        policy_loss(torch.zeros(3), torch.zeros(3, 1), baseline=0.0)


def test_a_baseline_makes_the_gradient_less_noisy(controller, everything):
    decisions, rewards = everything
    log_probs, _ = controller(decisions)

    def noise(baseline):
        grads = [gradient(policy_loss(log_probs[i : i + 1], rewards[i : i + 1] + 3, baseline), controller) for i in
                 range(len(rewards))]  # fmt: skip
        probabilities = log_probs.exp().detach()
        mean = sum(p * g for p, g in zip(probabilities, grads, strict=True))
        return sum(p * (g - mean).square().sum() for p, g in zip(probabilities, grads, strict=True)).item()

    assert noise(3.5) < 0.2 * noise(0.0)


def test_the_baseline_is_a_moving_average():
    policy = Policy(TINY, seed=0, decay=0.9, baseline=0.0)
    decisions = policy.propose(2)
    for expected in (0.2, 0.38):
        policy.learn(decisions, [1.0, 3.0])
        assert policy.baseline == pytest.approx(expected)


def test_the_controller_learns_a_known_reward():
    policy, uniform = Policy(TINY, seed=0, lr=0.02), Uniform(TINY, seed=0)
    first = sum(identities(policy.propose(500))) / 500
    entropy = policy.entropy
    for _ in range(100):
        decisions = policy.propose(8)
        policy.learn(decisions, identities(decisions))
    last = sum(identities(policy.propose(500))) / 500
    chance = sum(identities(uniform.propose(500))) / 500
    assert chance == pytest.approx(1 / 3, abs=0.06)
    assert first == pytest.approx(1 / 3, abs=0.06)
    assert last > 0.9
    assert policy.entropy < 0.6 * entropy
    assert policy.baseline == pytest.approx(last, abs=0.15)


def test_the_entropy_bonus_keeps_proposals_varied():
    entropies = []
    for weight in (0.0, 1.0):
        policy = Policy(TINY, seed=0, lr=0.02, entropy_weight=weight)
        for _ in range(100):
            decisions = policy.propose(8)
            policy.learn(decisions, identities(decisions))
        policy.propose(500)
        entropies.append(policy.entropy)
    assert entropies[1] > entropies[0] + 1


def test_uniform_proposals_are_uniform_and_learn_nothing():
    uniform = Uniform(TINY, seed=4)
    uniform.learn([(0, 0, 0, 0)] * 50, [1.0] * 50)
    counts = Counter(uniform.propose(36_000))
    assert set(counts) == set(TINY)
    assert max(abs(count - 1000) for count in counts.values()) < 150
    assert uniform.entropy == pytest.approx(math.log(TINY.sequences))


def test_a_seed_decides_the_proposals_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (Policy(TINY, seed=seed).propose(20) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.rand(1), expected)


def test_a_step_follows_the_gradient_of_its_own_rewards_alone():
    policy = Policy(TINY, seed=0, entropy_weight=0.0)
    policy.learn(policy.propose(4), [1.0, 0.0, 0.0, 1.0])
    policy.learn(policy.propose(4), [policy.baseline] * 4)  # worth nothing
    gradients = [p.grad for p in policy.controller.parameters() if p.grad is not None]
    assert gradients
    assert max(grad.abs().max().item() for grad in gradients) < 1e-8


def test_sizes_are_whole_numbers(controller):
    for hidden in (0, 1.5):
        with pytest.raises(SpaceError, match="hidden must be"):
            Controller(TINY, hidden)
    for propose in (controller.sample, Uniform(TINY, seed=0).propose, Policy(TINY, seed=0).propose):
        for count in (-1, 2.5):
            with pytest.raises(SpaceError, match="count must be"):
                propose(count)
