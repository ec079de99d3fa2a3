"""Joints of drawn figures: the network, the loss and the measure are right, and what is trained is repeatable."""

import dataclasses
import math

import pytest
import torch

from cnnlib.data import poses
from cnnlib.data.poses import JOINTS, SIDE
from cnnlib.measure import count_parameters
from cnnlib.settings import UnknownBudget
from cnnlib.studies import StudyError, keypoints
from cnnlib.training import ArgumentError


@pytest.fixture(scope="module")
def figures():
    return poses(32)


@pytest.fixture(scope="module")
def runs():
    return keypoints.run(budget="smoke", progress=False)


@pytest.mark.parametrize("arm", keypoints.ARMS)
def test_heatmaps_have_half_the_size(arm):
    net = keypoints.PoseNet(arm)
    assert net(torch.randn(2, 1, SIDE, SIDE)).shape == (2, len(JOINTS), SIDE // 2, SIDE // 2)
    assert not any(module.p for module in net.modules() if isinstance(module, torch.nn.Dropout))


def test_the_three_modules_have_about_the_same_parameters():
    counts = {arm: count_parameters(keypoints.PoseNet(arm)) for arm in keypoints.ARMS}
    alone = counts.pop("1x1 only")
    assert max(counts.values()) < 1.08 * min(counts.values())
    assert alone < 0.55 * min(counts.values())


def test_an_unknown_module_is_refused():
    with pytest.raises(StudyError, match="no module 'fountain'; there are 1x1 only, wasp, aspp, cascade"):
        keypoints.PoseNet("fountain")


def test_the_peak_of_the_wanted_heatmap_is_the_joint(figures):
    wanted = keypoints.targets(figures.joints)
    torch.testing.assert_close(wanted.sum((2, 3)), torch.ones(32, len(JOINTS)))
    off = (keypoints.peaks(wanted) - figures.joints).abs().max()
    assert off <= keypoints.CELL / 2 + 1e-4
    assert not keypoints.missed(keypoints.peaks(wanted), figures.joints).any()


def test_the_loss_is_least_at_the_wanted_heatmap(figures):
    wanted = keypoints.targets(figures.joints)
    least = keypoints.heatmap_loss(wanted.clamp(min=1e-30).log(), figures.joints)
    entropy = -torch.xlogy(wanted, wanted).sum((2, 3)).mean()
    torch.testing.assert_close(least, entropy)
    assert least < keypoints.heatmap_loss(3 * wanted, figures.joints)


def test_a_keypoint_is_found_within_three_pixels():
    joints = torch.full((1, len(JOINTS), 2), 20.0)
    found = joints.clone()
    found[0, 0] += torch.tensor([3.0, 0.0])
    found[0, 1] += torch.tensor([2.2, 2.2])
    assert keypoints.missed(found, joints)[0].tolist() == [False, True, *[False] * 5]


def test_brightness_and_contrast_do_not_matter(figures):
    input = keypoints.as_input(figures.images)
    torch.testing.assert_close(keypoints.as_input(figures.images.float() / 2 + 40), input)
    torch.testing.assert_close(input.mean((1, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)


def test_a_training_learns_and_can_be_repeated(figures):
    first, again = (keypoints.train("1x1 only", figures, figures, steps=20, seed=1) for _ in range(2))
    assert first.losses == again.losses
    assert first.errors == again.errors
    assert first.losses[-1][1] < first.losses[0][1] - 0.3
    other = keypoints.train("1x1 only", figures, figures, steps=20, seed=2)
    assert other.losses != first.losses


def test_the_rate_falls_to_zero_as_half_a_cosine(figures, monkeypatch):
    rates = []

    class Adam(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"] / keypoints.RATE)
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    keypoints.train("1x1 only", figures, figures, steps=4)
    assert rates == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])


def test_a_seed_chooses_the_weights():
    one = poses(1)  # with one figure there is no order to choose
    first, other = (keypoints.train("1x1 only", one, one, steps=1, seed=seed) for seed in (1, 2))
    assert first.losses != other.losses


def test_training_leaves_the_random_state_alone(figures):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    keypoints.train("1x1 only", figures, figures, steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_errors_are_those_of_the_network(runs):
    test = poses(keypoints.SCALES["smoke"].test, seed=1)
    for run in runs:
        wrong = keypoints.missed(keypoints.locate(run.module, test.images), test.joints).float().mean(0)
        assert [*run.errors.values()] == pytest.approx((100 * wrong).tolist())
        assert run.error == pytest.approx(run.mean_error(JOINTS))


def test_a_study_has_every_arm(runs):
    assert [(run.arm, run.seed, run.steps) for run in runs] == [(arm, 0, 2) for arm in keypoints.ARMS]
    (one,) = keypoints.run(budget="smoke", arms=["aspp"], progress=False)
    assert one.errors == next(run for run in runs if run.arm == "aspp").errors


def test_arms_named_twice_are_trained_once_and_unknown_ones_refused_before(monkeypatch):
    trained = []
    monkeypatch.setattr(keypoints, "train", lambda arm, *_: trained.append(arm))
    keypoints.run(budget="smoke", arms=["wasp", "aspp", "wasp"], progress=False)
    assert trained == ["wasp", "aspp"]
    with pytest.raises(StudyError, match="no module 'fountain'; there are 1x1 only, wasp, aspp, cascade"):
        keypoints.run(budget="smoke", arms=["wasp", "fountain"], progress=False)
    with pytest.raises(StudyError, match=r"sequences, even of one: arms=\['wasp'\]"):
        keypoints.run(budget="smoke", arms="wasp", progress=False)
    assert trained == ["wasp", "aspp"]


def test_table_says_that_the_data_is_generated_and_ranks_no_single_run(runs):
    text = str(keypoints.table(runs))
    assert "Generated stick figures, smoke: 2 steps" in text
    assert "no difference shown between any two of 1x1 only, wasp, aspp, cascade" in text.replace("\n", " ")


def test_table_gives_means_by_group_of_joints(runs):
    errors = dict.fromkeys(JOINTS, 10.0) | {"left hand": 20.0, "right hand": 40.0}
    mean = sum(errors.values()) / len(errors)
    made = [dataclasses.replace(runs[0], errors=errors, error=mean, seed=seed) for seed in (0, 1)]
    (row,) = keypoints.table(made).rows
    assert row[3:] == ("15.71 ± 0.00 (2)", "10.00 ± 0.00 (2)", "30.00 ± 0.00 (2)", "10.00 ± 0.00 (2)")


def test_runs_of_different_length_are_not_compared(runs):
    with pytest.raises(StudyError, match="of one length"):
        keypoints.table([runs[0], dataclasses.replace(runs[1], steps=3)])
    with pytest.raises(StudyError, match="of one length"):
        keypoints.table([])


def test_a_run_counts_once(runs):
    with pytest.raises(StudyError, match=r"more than one record of 1x1 only seed 0 \(smoke\)"):
        keypoints.table([runs[0], *runs])


def test_no_test_figure_is_trained_on(monkeypatch):
    parts = []
    monkeypatch.setattr(keypoints, "train", lambda arm, figures, test, *_: parts.append((figures, test)))
    keypoints.run(budget="smoke", arms=["wasp"], progress=False)
    shown, tested = ({image.numpy().tobytes() for image in part.images} for part in parts[0])
    assert (len(shown), len(tested), len(shown & tested)) == (64, 32, 0)


def test_the_wanted_bell_has_a_deviation_of_one_cell():
    joints = torch.full((1, len(JOINTS), 2), keypoints.CELL * 10 + (keypoints.CELL - 1) / 2)  # centre of cell 10
    bell = keypoints.targets(joints)[0, 0]
    assert (bell[10, 11] / bell[10, 10]).item() == pytest.approx(math.exp(-1 / 2))
    assert (bell[12, 10] / bell[10, 10]).item() == pytest.approx(math.exp(-2))


def test_each_image_has_deviation_1(figures):
    torch.testing.assert_close(keypoints.as_input(figures.images).std((1, 2, 3)), torch.ones(32))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"steps": 0}, ArgumentError, "steps must be at least 1"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"budget": "long"}, UnknownBudget, "unknown budget 'long'"),
    ],
)
def test_what_makes_no_training_is_refused(figures, wrong, error, said):
    with pytest.raises(error, match=said):
        keypoints.train(next(iter(keypoints.ARMS)), figures, figures, **{"steps": 1, **wrong})
