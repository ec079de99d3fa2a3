"""The search itself: what it sees, what it spends, what it returns."""

import dataclasses
import itertools
import math

import pytest
import torch

from cnnlib.search import WAYS, Effort, Policy, SearchError, Space, search, split
from cnnlib.search import loop as loop_module
from cnnlib.search.loop import REWARD_BATCH
from cnnlib.training import evaluation, predict
from cnnlib.training.errors import ArgumentError

EFFORT = Effort(
    steps=6, batch_size=8, updates=4, proposals=2, candidates=3, children=3, train=80, validation=32, channels=4
)


@pytest.fixture(scope="module")
def parts(images):
    return split(images, EFFORT.train, EFFORT.validation)


def identities(plan):
    """A reward that is known: the share of identities among a cell's steps."""
    kinds = [name for node in plan.nodes for name, _ in node]
    return kinds.count("identity") / len(kinds)


@pytest.fixture
def known_reward(monkeypatch):
    """Every network is rewarded with the share of identities in its cell."""
    monkeypatch.setattr(
        loop_module._Search, "_right", lambda self, net, which: torch.tensor(identities(net.cells[0].plan))
    )


def test_the_parts_share_no_image_and_hold_no_test_image(images):
    numbered = torch.arange(200, dtype=torch.uint8).reshape(200, 1, 1, 1).expand(200, 3, 32, 32).contiguous()
    marked = dataclasses.replace(images, train_images=numbered, train_labels=torch.arange(200) % 10)
    parts = split(marked, 120, 60, seed=3)
    first, second = (set(part[:, 0, 0, 0].tolist()) for part in (parts.data.train_images, parts.images))
    assert (len(first), len(second), len(first & second)) == (120, 60, 0)
    assert parts.labels.tolist() == [image % 10 for image in parts.images[:, 0, 0, 0].tolist()]
    assert len(parts.data.test_images) == len(parts.data.test_labels) == 0
    assert set(split(marked, 120, 60, seed=4).images[:, 0, 0, 0].tolist()) != second
    with pytest.raises(SearchError, match="150 and 60 images are wanted, and the training set of CIFAR-10 has 200"):
        split(marked, 150, 60)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_finds_the_same_cell(way, parts):
    first, again = (search(way, parts, EFFORT, seed=1) for _ in range(2))
    assert dataclasses.replace(first, seconds=0) == dataclasses.replace(again, seconds=0)
    assert search(way, parts, EFFORT, seed=2).candidates != first.candidates


@pytest.mark.parametrize("way", WAYS)
def test_rewards_do_not_depend_on_how_many_images_a_device_takes_at_a_time(way, parts, monkeypatch):
    found = search(way, parts, EFFORT)
    monkeypatch.setitem(evaluation.BATCH_SIZE, "cpu", 5)
    assert search(way, parts, EFFORT).candidates == found.candidates


@pytest.mark.parametrize("way", WAYS)
def test_costs_are_counted(way, parts):
    found = search(way, parts, EFFORT)
    assert found.trained_images == 6 * 8
    if WAYS[way].shared:
        assert found.cells == 4 * 2 + 3
        assert found.validated_images == 4 * 2 * 8 + 3 * 32
        assert [one.step for one in found.history] == [3, 4, 5, 6]
    else:
        assert found.cells == 3
        assert found.validated_images == 3 * 32
        assert [one.step for one in found.history] == [2, 4, 6]
    per_round = 2 * 6 if WAYS[way].shared else 6  # steps of the proposed cells
    assert all(sum(one.operations.values()) == per_round for one in found.history)


@pytest.mark.parametrize("way", WAYS)
def test_the_best_candidate_is_returned(way, parts):
    found = search(way, parts, EFFORT)
    assert (found.plan, found.reward) in found.candidates
    assert found.reward == max(reward for _, reward in found.candidates)
    assert all(Space().decisions(plan) for plan, _ in found.candidates)


@pytest.mark.parametrize("way", WAYS)
def test_every_step_has_the_rate_of_the_effort_and_a_batch_of_its_own(way, parts, monkeypatch):
    numbers, rates = [], []
    batch_of, take = loop_module.Batches.__getitem__, loop_module.Step.__call__
    monkeypatch.setattr(loop_module.Batches, "__getitem__", lambda self, n: numbers.append(n) or batch_of(self, n))
    monkeypatch.setattr(loop_module.Step, "__call__", lambda self, *batch: rates.append(batch[2]) or take(self, *batch))
    search(way, parts, EFFORT)
    assert numbers == list(range(EFFORT.steps))
    assert rates == [EFFORT.lr] * EFFORT.steps


def test_proposals_are_rewarded_on_different_images(parts, monkeypatch):
    parts_seen, right = [], loop_module._Search._right
    monkeypatch.setattr(
        loop_module._Search, "_right", lambda self, net, which: parts_seen.append(which) or right(self, net, which)
    )
    search("enas", parts, EFFORT)
    rewarded, compared = parts_seen[: 4 * 2], parts_seen[4 * 2 :]
    assert len({part.start for part in rewarded}) == 4 * 2
    assert all(part.stop - part.start == EFFORT.batch_size and part.stop <= EFFORT.validation for part in rewarded)
    assert compared == [slice(None)] * 3


@pytest.mark.parametrize("way", WAYS)
def test_rewards_are_shares_of_right_answers(way, parts, monkeypatch):
    shares, right = [], loop_module._Search._right

    def record(self, net, which):
        logits = predict(net, parts.images[which], parts.data, batch_size=REWARD_BATCH)
        labels = parts.labels[which].tolist()
        hits = sum(answer == label for answer, label in zip(logits.argmax(1).tolist(), labels, strict=True))
        shares.append(hits / len(labels))
        return right(self, net, which)

    monkeypatch.setattr(loop_module._Search, "_right", record)
    found = search(way, parts, EFFORT)
    rounds = candidates = shares
    if WAYS[way].shared:
        rounds = [(first + second) / 2 for first, second in zip(shares[:8:2], shares[1:8:2], strict=True)]
        candidates = shares[8:]
    assert [one.reward for one in found.history] == pytest.approx(rounds)
    assert [reward for _, reward in found.candidates] == pytest.approx(candidates)


def test_each_child_begins_with_weights_of_its_own(parts, monkeypatch):
    stems, prepare = [], loop_module.batch_statistics

    def record(net):
        stems.append(next(net.stem.parameters()).clone())
        return prepare(net)

    monkeypatch.setattr(loop_module, "batch_statistics", record)
    monkeypatch.setattr(loop_module._Search, "_train", lambda *_: None)
    search("nas", parts, EFFORT, space=Space(1, ("identity",)))  # all cells draw as many random numbers
    assert len(stems) == EFFORT.children
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(stems, 2))


def test_the_controller_has_the_rate_of_the_effort_and_expects_no_more_than_chance_at_first(parts):
    effort = dataclasses.replace(EFFORT, controller_lr=0.02)
    one = loop_module._Search(WAYS["nas"], parts, effort, Space(), 0, torch.device("cpu"))
    assert [group["lr"] for group in one.proposer.optimizer.param_groups] == [0.02]
    assert one.proposer.baseline == 0.1


def test_only_a_controller_changes_its_proposals(parts):
    for way, (controller, _) in WAYS.items():
        entropies = {one.entropy for one in search(way, parts, EFFORT).history}
        assert (len(entropies) > 1) == controller


def test_enas_trains_the_cells_that_its_controller_proposes(parts, known_reward, monkeypatch):
    effort, space, trained = dataclasses.replace(EFFORT, controller_lr=0.02), Space(), []
    monkeypatch.setattr(loop_module.Step, "__call__", lambda self, *_: trained.append(self.module.cells[0].plan))
    found = search("enas", parts, effort, space=space, seed=5)
    policy, expected = Policy(space, 5, lr=0.02, baseline=0.1), []
    for done in range(effort.steps):
        expected += map(space.plan, policy.propose(1))
        for _ in range(effort.due(done), effort.due(done + 1)):
            proposed = policy.propose(effort.proposals)
            policy.learn(proposed, [identities(space.plan(one)) for one in proposed])
    assert trained == expected
    assert [plan for plan, _ in found.candidates] == [space.plan(one) for one in policy.propose(effort.candidates)]


def test_rewards_lead_the_search(parts, known_reward, monkeypatch):
    """With a reward that only counts identities, controllers find cells of identities, and random search does not."""
    monkeypatch.setattr(loop_module._Search, "_train", lambda *_: None)
    effort = dataclasses.replace(EFFORT, controller_lr=0.02, updates=120, proposals=6, warmup=0.0)
    each = {True: effort, False: dataclasses.replace(effort, steps=160, children=160)}
    for way, (controller, shared) in WAYS.items():
        history = search(way, parts, each[shared], space=Space(1)).history
        for one in history:
            assert one.reward == pytest.approx(one.operations["identity"] / sum(one.operations.values()))
        mean = sum(one.reward for one in history[-20:]) / 20
        assert mean > 0.8 if controller else mean < 0.35


@pytest.mark.parametrize("way", ["nas", "enas"])
def test_a_search_leaves_the_random_states_alone(way, parts, monkeypatch):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("generators of GPUs were seeded"))
    search(way, parts, EFFORT)
    assert torch.equal(torch.rand(1), expected)


def test_updates_are_spread_over_the_steps_after_the_warmup():
    effort = Effort(steps=100, updates=160, warmup=0.2)
    due = [effort.due(step) for step in range(101)]
    assert due[20] == 0
    assert due[21] == 2
    assert due[100] == 160
    assert sorted(due) == due


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1, not 0")
            for name in ("steps", "updates", "proposals", "candidates", "children", "train", "validation", "channels")
        ),
        ({"warmup": 1.0}, "a warm-up of 1 of 6 steps leaves none"),
        ({"warmup": 0.95}, "a warm-up of 0.95 of 6 steps leaves none"),
        ({"warmup": -0.5}, "a warm-up of -0.5 of 6"),
        ({"warmup": math.nan}, "warmup must be a share of the steps, not nan"),
        ({"lr": -1}, "lr must be a finite number above 0, not -1"),
        ({"controller_lr": "x"}, "controller_lr must be a finite number above 0, not 'x'"),
        ({"children": 4}, "6 steps cannot be shared equally among 4 children"),
    ],
)
def test_an_effort_that_makes_no_search_is_refused(wrong, words):
    with pytest.raises(SearchError, match=words):
        dataclasses.replace(EFFORT, **wrong)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (80, 0, "validation must be at least 1, not 0"),
        (-5, 10, "train must be at least 1, not -5"),
        (80, 2.5, "validation must be a whole number, not 2.5"),
    ],
)
def test_both_parts_need_an_image(images, train, validation, message):
    with pytest.raises(SearchError, match=message):
        split(images, train, validation)


def test_a_seed_is_a_whole_number(images):
    for wrong in (-1, 1.5):
        with pytest.raises(ArgumentError, match=f"seed must be a whole number from 0 to .* not {wrong}"):
            split(images, 10, 10, seed=wrong)


def test_an_unknown_way_is_refused(parts):
    with pytest.raises(SearchError, match="there is no way 'evolution' to search; there are nas, random-own, enas"):
        search("evolution", parts, EFFORT)
    with pytest.raises(SearchError, match=r"there is no way \['nas'\] to search"):
        search(["nas"], parts, EFFORT)


def test_images_that_are_not_split_are_refused(parts):
    for wrong in ((parts.data, EFFORT), (parts, None)):
        with pytest.raises(SearchError, match=r"search needs parts, as split\(.*\) makes them, and an Effort"):
            search("nas", *wrong)


@pytest.mark.parametrize("way", WAYS)
def test_each_candidate_has_the_reward_of_its_own_cell(way, parts, known_reward):
    found = search(way, parts, EFFORT)
    assert len({reward for _, reward in found.candidates}) > 1
    for plan, reward in found.candidates:
        assert reward == pytest.approx(identities(plan))


def test_the_shared_weights_are_other_ones_for_every_seed(parts, monkeypatch):
    stems = []
    monkeypatch.setattr(
        loop_module._Search,
        "_train",
        lambda self, step, *_: stems.append(next(step.module.stem.parameters()).clone()),
    )
    for seed in (0, 1):
        search("enas", parts, EFFORT, seed=seed)
    assert not torch.equal(stems[0], stems[-1])
