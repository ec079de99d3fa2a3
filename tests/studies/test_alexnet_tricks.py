from cnnlib.data import shapes10
from cnnlib.studies import steps_to
from cnnlib.studies.alexnet_tricks import REGULARISATION, RELU
from cnnlib.training.run import Point


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


def test_overfitting_is_studied_on_a_small_subset():
    scale = REGULARISATION.scale("short")
    images = REGULARISATION.images(shapes10(train=6000, test=10), scale)
    assert images.train_labels.bincount().tolist() == [500] * 10
    assert scale.recipe(REGULARISATION.arms["neither"].recipe).steps(5000) == 60 * 39


def test_steps_to_a_training_error():
    point = lambda step, error: Point(step, 1.0, 0.1, 1.0, error, None, None, 1.0)  # noqa: E731
    curve = type("Curve", (), {"history": (point(50, 60.0), point(100, 40.0), point(150, 42.0), point(200, 25.0))})
    assert [steps_to(curve, error) for error in (70, 40, 39.9, 25, 20)] == [50, 100, 200, 200, None]
