"""The studies of the book, each run for real in the smoke budget."""

import dataclasses
import json
import math

import pytest
import torch

from cnnlib.data import normalise, shapes10
from cnnlib.measure import count_parameters, multiply_adds
from cnnlib.models import card, create
from cnnlib.studies import STUDIES, Record, compare, differ, find_study, load_records, run, search, summarise
from cnnlib.studies.degradation import blocks
from cnnlib.studies.record import SHIPPED

AT_EQUAL_PARAMETERS = {  # study: by how much the largest network may exceed the smallest
    "kernel-stacks": 1.01,
    "width-against-depth": 1.03,
    "cardinality": 1.06,
    "many-scales": 1.03,
    "higher-order": 1.0,
    "residual-variants": 1.04,
    "vgg-resnet-densenet": 1.03,
    "equal-time": 1.03,
}


@pytest.fixture(scope="module")
def images():
    """500 of each, under the name of CIFAR-10: what the studies are about."""
    return dataclasses.replace(shapes10(train=500, test=500), name="CIFAR-10")


TOGETHER = [  # arm by arm, but for a study at equal time, which first measures the speeds of all
    (name, arms)
    for name, study in STUDIES.items()
    for arms in ([[*study.arms]] if study.equal_time else [[arm] for arm in study.arms])
]


@pytest.mark.parametrize(("name", "arms"), TOGETHER, ids=[f"{name}-{', '.join(arms)}" for name, arms in TOGETHER])
def test_every_arm_trains_in_the_smoke_budget(name, arms, images, tmp_path):
    study = STUDIES[name]
    seeds = study.scale("smoke").seeds[:1]
    records = run(study, budget="smoke", seeds=seeds, arms=arms, data=images, progress=False)
    assert [record.arm for record in records] == arms
    for record in records:
        assert math.isfinite(record.run.history[-1].train_loss)
        if study.probe:
            assert record.probe.initial != record.probe.trained
        assert record.arm in str(compare(study, records))
        assert Record.load(record.save(tmp_path)).arm == record.arm


def test_lesions_are_measured_on_test_images(images):
    torch.manual_seed(0)
    net = create("resnet20").eval()
    with torch.no_grad():
        labels = net(normalise(images.test_images[:100], images.mean, images.std)).argmax(1)
    assert len(labels.unique()) > 1
    few = dataclasses.replace(images, test_images=images.test_images[:100], test_labels=labels)
    found = blocks(net, few)
    whole, *without = found["lesions"]
    assert whole == {"block": "", "error": 0}
    assert [row["block"] for row in without] == [f"stages.{s}.{b}" for s in range(3) for b in range(3)]
    assert max(row["error"] for row in without) > 0
    assert [row["block"] for row in found["responses"]] == [row["block"] for row in without]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_complete(name):
    study = STUDIES[name]
    assert study.name == name
    assert study.question.endswith("?")
    assert {"smoke", "medium", "full"} <= study.budgets.keys()
    assert study.ensemble is None or study.ensemble in study.arms
    assert study.equal_time is None or study.equal_time in study.arms
    assert set(study.mixed) <= study.arms.keys()
    assert all(len(scale.seeds) >= 3 for budget, scale in study.budgets.items() if budget != "smoke")
    assert study.scale("full").recipe(study.arms[next(iter(study.arms))].recipe).full_length == ""
    arms = [(arm.model, repr(arm.overrides), arm.recipe, arm.precision) for arm in study.arms.values()]
    assert len(set(arms)) == len(arms) > 1
    assert all(card(arm.model).dataset == "CIFAR-10" for arm in study.arms.values())


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_shipped_records_fit_the_study(study):
    load_records(study)


def test_every_folder_of_shipped_records_belongs_to_a_study():
    assert {path.name for path in SHIPPED.iterdir() if path.is_dir()} <= {*STUDIES, search.NAME}


@pytest.mark.parametrize(("name", "ratio"), AT_EQUAL_PARAMETERS.items())
def test_parameters_are_alike_where_the_question_says_so(name, ratio):
    study = STUDIES[name]
    assert "equal parameters" in study.question
    counts = [count_parameters(create(arm.model, **arm.overrides)) for arm in study.arms.values()]
    assert max(counts) <= ratio * min(counts)


def test_activation_orders_have_the_same_cost():
    for unit in ("basic", "bottleneck"):
        arms = [arm for label, arm in STUDIES["activation-orders"].arms.items() if label.endswith(unit)]
        assert len(arms) == 5
        assert len({multiply_adds(create(arm.model), (3, 32, 32)) for arm in arms}) == 1


def test_with_shorter_steps_all_schemes_go_as_far():
    far = {}
    for label, arm in STUDIES["higher-order"].arms.items():
        stage = create(arm.model, **arm.overrides).stages[1]
        far[label] = sum(sum(block.scheme.b) for block in stage)
    whole = [far.pop(name) for name in ("euler", "midpoint", "heun", "rk4")]
    assert whole == pytest.approx([4, 2, 2, 1])
    assert [*far.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "baseline", "control", "gain"),
    [
        ("activation-orders", "original, basic", "original, gain 1/2", 1 / 2),
        ("activation-orders", "original, basic", "original, gain 1/4", 1 / 4),
        ("squeeze-and-excitation", "resnet20", "resnet20, half", 1 / 2),
        ("squeeze-and-excitation", "resnet56", "resnet56, half", 1 / 2),
        ("identity-start", "resnet20", "resnet20, F = 0", 0),
        ("identity-start", "resnet56", "resnet56, F = 0", 0),
        ("identity-start", "resnet110", "resnet110, F = 0", 0),
    ],
)
def test_controls_change_the_strength_of_branches_alone(name, baseline, control, gain):
    arms = STUDIES[name].arms
    weaker, whole = arms[control], arms[baseline]
    assert weaker.overrides == whole.overrides | {"last_gain": gain}
    assert (weaker.model, weaker.recipe) == (whole.model, whole.recipe)


def test_inception_modules_have_the_same_cost():
    arms = [arm for label, arm in STUDIES["inception-modules"].arms.items() if "heads" not in label]
    costs = [multiply_adds(create(arm.model, **arm.overrides), (3, 32, 32)) for arm in arms]
    assert len(costs) == 2
    assert costs[0] == pytest.approx(costs[1], rel=0.001)


def test_averaged_families_have_about_the_same_cost():
    study = STUDIES["averaged-families"]
    costs = [multiply_adds(create(arm.model, **arm.overrides), (3, 32, 32)) for arm in study.arms.values()]
    assert set(study.mixed) == {*study.arms}
    assert max(costs) <= 1.5 * min(costs)


def test_scaled_nets_have_the_same_cost_and_the_base_a_quarter_of_it():
    arms = STUDIES["compound-scaling"].arms
    base, *scaled = (multiply_adds(create(arm.model, **arm.overrides), (3, 32, 32)) for arm in arms.values())
    assert len(scaled) == 4
    assert max(scaled) <= 1.02 * min(scaled)
    assert all(cost == pytest.approx(4 * base, rel=0.02) for cost in scaled)


def test_degradation_has_both_kinds_at_each_depth():
    assert list(STUDIES["degradation"].arms) == [
        *(f"plain{depth}" for depth in (20, 32, 44, 56, 110)),
        *(f"resnet{depth}" for depth in (20, 32, 44, 56, 110)),
    ]


def test_half_precision_ends_as_single_precision_does():
    """Three seeds of each: no difference is shown, and the means lie nearer to each other than two seeds do."""
    records = load_records(find_study("half-precision"), "short")
    fp32, bf16 = (
        summarise([record.run.test_error for record in records if record.arm == arm]) for arm in ("fp32", "bf16")
    )
    assert (fp32.n, bf16.n) == (3, 3)
    assert not differ(fp32, bf16)
    assert abs(fp32.mean - bf16.mean) < min(fp32.std, bf16.std)
