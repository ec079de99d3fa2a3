import dataclasses

import pytest

from cnnlib.settings import BUDGETS
from cnnlib.studies import STUDIES, compare, load_records, run, run_ensemble, steps_to
from cnnlib.studies.alexnet_tricks import REGULARISATION, RELU
from cnnlib.studies.record import SHIPPED
from cnnlib.training.run import Point


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_runs_in_the_smoke_budget(study, request):
    data = request.getfixturevalue("many")
    records = run(study, budget="smoke", data=data, progress=False)
    table = compare(study, records)
    assert len(table.rows) == len(study.arms)
    if study.ensemble:
        assert run_ensemble(study, records, study.images(data, study.scale("smoke"))).images == 500


@pytest.fixture(scope="module")
def many():
    from cnnlib.data import shapes10

    return dataclasses.replace(shapes10(train=6000, test=500), name="CIFAR-10")


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_says_what_each_budget_means(study):
    assert set(study.budgets) == set(BUDGETS)
    assert all(len(study.scale(budget).seeds) >= 3 for budget in BUDGETS if budget != "smoke")
    assert study.ensemble is None or study.ensemble in study.arms
    assert study.question.endswith("?")


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_shipped_records_fit_the_study(study):
    load_records(study)


def test_every_folder_of_shipped_records_belongs_to_a_study():
    assert {path.name for path in SHIPPED.iterdir() if path.is_dir()} <= set(STUDIES)


def test_the_arms_differ_in_one_thing_only():
    relu, tanh = RELU.arms.values()
    assert relu.recipe == tanh.recipe
    assert {key for key in relu.overrides if relu.overrides[key] != tanh.overrides[key]} == {"activation"}
    neither, dropout, augmentation, both = REGULARISATION.arms.values()
    assert (neither.recipe, neither.overrides) == (dropout.recipe, augmentation.overrides)
    assert (both.recipe, both.overrides) == (augmentation.recipe, dropout.overrides)
    assert (neither.overrides["dropout"], dropout.overrides["dropout"]) == (0.0, 0.5)
    assert neither.recipe.replace(name="x", augment=True) == augmentation.recipe.replace(name="x")
    assert not relu.recipe.augment


def test_overfitting_is_studied_on_a_small_subset(many):
    scale = REGULARISATION.scale("short")
    images = REGULARISATION.images(many, scale)
    assert images.train_labels.bincount().tolist() == [500] * 10
    assert scale.recipe(REGULARISATION.arms["neither"].recipe).steps(5000) == 60 * 39


def test_steps_to_a_training_error():
    point = lambda step, error: Point(step, 1.0, 0.1, 1.0, error, None, None, 1.0)  # noqa: E731
    curve = type("Curve", (), {"history": (point(50, 60.0), point(100, 40.0), point(150, 42.0), point(200, 25.0))})
    assert [steps_to(curve, error) for error in (70, 40, 39.9, 25, 20)] == [50, 100, 200, 200, None]
