import json

import numpy as np
import pytest

from cnnlib.models import card
from cnnlib.training import RECIPES, Recipe, RecipeError, find_recipe, recipe_for

GOOD = {"name": "x", "batch_size": 8, "lr": 0.1, "epochs": 2}


@pytest.mark.parametrize(
    ("name", "images", "steps", "epoch_steps"),
    [
        ("resnet-cifar", 50_000, 64_000, 390),
        ("resnet110-cifar", 50_000, 64_000, 390),
        ("wrn", 50_000, 200 * 390, 390),
        ("densenet", 50_000, 300 * 781, 781),
        ("resnext", 50_000, 300 * 390, 390),
        ("stochastic-depth", 50_000, 500 * 390, 390),
        ("alexnet", 50_000, 90 * 390, 390),
    ],
)
def test_lengths_of_the_papers_recipes(name, images, steps, epoch_steps):
    assert RECIPES[name].steps(images) == steps
    assert RECIPES[name].steps_per_epoch(images) == epoch_steps


@pytest.mark.parametrize(
    ("name", "batch", "lr", "decay", "nesterov", "falls", "factor"),
    [  # falls: where the rate changes, in the papers' steps or epochs, and the length there
        ("resnet-cifar", 128, 0.1, 1e-4, False, (32_000, 48_000, 64_000), 0.1),
        ("resnet110-cifar", 128, 0.1, 1e-4, False, (32_000, 48_000, 64_000), 0.1),
        ("resnet-imagenet", 256, 0.1, 1e-4, False, (30, 60, 90), 0.1),
        ("wrn", 128, 0.1, 5e-4, True, (60, 120, 160, 200), 0.2),
        ("densenet", 64, 0.1, 1e-4, True, (150, 225, 300), 0.1),
        ("resnext", 128, 0.1, 5e-4, True, (150, 225, 300), 0.1),
        ("stochastic-depth", 128, 0.1, 1e-4, True, (250, 375, 500), 0.1),
        ("alexnet", 128, 0.01, 5e-4, False, (22.5, 45, 67.5, 90), 0.1),
    ],
)
def test_the_papers_recipes(name, batch, lr, decay, nesterov, falls, factor):
    recipe, (*milestones, length) = RECIPES[name], falls
    assert (recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.nesterov) == (batch, lr, decay, nesterov)
    assert (recipe.momentum, recipe.gamma) == (0.9, factor)
    assert [milestone * length for milestone in recipe.milestones] == pytest.approx(milestones)
    assert (recipe.iterations or recipe.epochs) == length


def test_resnet_schedule_is_that_of_the_paper():
    recipe = RECIPES["resnet-cifar"]
    assert (recipe.batch_size, recipe.momentum, recipe.nesterov, recipe.weight_decay) == (128, 0.9, False, 1e-4)
    at = [recipe.lr_at(step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert at == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_resnet110_warms_up_for_400_steps():
    recipe = RECIPES["resnet110-cifar"]
    assert [recipe.lr_at(step, 64_000) for step in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])


def test_other_papers_schedules():
    wrn, densenet, alexnet = RECIPES["wrn"], RECIPES["densenet"], RECIPES["alexnet"]
    assert wrn.lr_at(59 * 390, 200 * 390) == pytest.approx(0.1)
    assert [wrn.lr_at(epoch * 390, 200 * 390) for epoch in (60, 120, 160)] == pytest.approx([0.02, 0.004, 0.0008])
    assert wrn.nesterov
    assert wrn.weight_decay == 5e-4
    assert wrn.padding == "reflect"
    assert [densenet.lr_at(epoch, 300) for epoch in (149, 150, 225)] == pytest.approx([0.1, 0.01, 0.001])
    assert densenet.batch_size == 64
    assert (alexnet.lr, alexnet.weight_decay, alexnet.epochs) == (0.01, 5e-4, 90)
    assert alexnet.lr_at(89, 90) == pytest.approx(1e-5)


def test_every_recipe_cites_its_source_and_keeps_its_name():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.source


def test_limited_keeps_the_shape_of_the_schedule():
    full = RECIPES["resnet110-cifar"]
    short = full.limited(steps=640)
    assert short.steps(50_000) == 640
    for step in range(640):
        assert short.lr_at(step, 640) == full.lr_at(step * 100, 64_000)
    assert "full length: 64,000 steps" in str(short)
    assert "full length: 64,000 steps" in str(short.limited(epochs=0.5))
    assert short.limited(epochs=0.5).steps(50_000) == 195


def test_half_an_epoch_and_less_than_a_step():
    assert RECIPES["alexnet"].limited(epochs=1.5).steps(1280) == 15
    assert RECIPES["alexnet"].limited(epochs=0.001).steps(1280) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 12.5}, "batch_size"),
        ({"lr": 0}, "lr"),
        ({"lr": float("inf")}, "lr must be positive and finite, not inf"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": float("inf")}, "epochs must be positive and finite, not inf"),
        ({"iterations": 5}, "exactly one"),
        ({"epochs": None}, "exactly one"),
        ({"epochs": None, "iterations": 2.5}, "iterations"),
        ({"momentum": 1}, "momentum"),
        ({"momentum": 0, "nesterov": True}, "Nesterov"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"milestones": (0.7, 0.5)}, "milestones"),
        ({"milestones": (150,)}, "milestones"),
        ({"gamma": 0}, "gamma"),
        ({"warmup": 5, "warmup_lr": 0.1}, "warmup"),
        ({"warmup": 0.1}, "warmup_lr"),
        ({"padding": "zeros"}, "padding"),
        ({"lr": "0.1"}, "lr must be a number, not '0.1'"),
        ({"epochs": "3"}, "epochs must be a number"),
        ({"batch_size": True}, "batch_size must be a positive whole number, not True"),
        ({"weight_decay": float("inf")}, "weight_decay must not be negative, and finite, not inf"),
        ({"warmup": 0.1, "warmup_lr": float("inf")}, "warmup_lr, not inf"),
        ({"milestones": 0.5}, "milestones must be several numbers, not 0.5"),
        ({"milestones": ("0.5",)}, "each of milestones must be a number, not '0.5'"),
        ({"augment": "no"}, "augment must be True or False, not 'no'"),
        ({"momentum": None}, "momentum must be a number, not None"),
        ({"name": 3}, "name must be a text, not 3"),
    ],
)
def test_bad_values_are_one_clear_error(change, word):
    with pytest.raises(RecipeError, match=word):
        Recipe(**GOOD | change)


def test_numbers_of_numpy_are_kept_as_pythons_own():
    given = {
        "batch_size": np.int64(128),
        "lr": np.float32(0.5),
        "milestones": np.array([0.25, 0.5]),
        "augment": np.True_,
    }
    recipe = Recipe(**GOOD | given)
    assert recipe == Recipe(**GOOD | {"batch_size": 128, "lr": 0.5, "milestones": (0.25, 0.5), "augment": True})
    assert json.loads(json.dumps(recipe.as_dict()))["batch_size"] == 128
    assert [type(milestone) for milestone in recipe.milestones] == [float, float]


@pytest.mark.parametrize("milestones", [[0.5, 0.75], np.array([0.5, 0.75])])
def test_the_same_values_in_another_form_change_no_recipe(milestones):
    recipe = RECIPES["resnet-cifar"]
    assert recipe.replace(milestones=milestones, lr=np.float64(0.1), batch_size=np.int64(128)) == recipe
    changed = recipe.replace(milestones=np.array([0.25, 0.5]), batch_size=np.int64(64))
    assert changed.name == "resnet-cifar, milestones=(0.25, 0.5), batch_size=64"


def test_a_changed_recipe_never_passes_for_the_original():
    recipe = RECIPES["resnet-cifar"]
    assert recipe.replace(lr=0.05).name == "resnet-cifar, lr=0.05"
    assert recipe.replace(lr=0.1) == recipe
    assert recipe.replace(lr=0.05, name="mine").name == "mine"
    assert recipe.replace(deviations="none").name == "resnet-cifar"
    with pytest.raises(RecipeError, match="learning_rate"):
        recipe.replace(learning_rate=0.05)
    with pytest.raises(RecipeError, match="exactly one"):
        recipe.limited()
    with pytest.raises(RecipeError, match=r"^steps must be at least 1, not -3$"):
        recipe.limited(steps=-3)


def test_a_batch_larger_than_the_training_set():
    with pytest.raises(RecipeError, match=r"use a smaller one, batch_size=100$"):
        RECIPES["resnet-cifar"].steps(100)


def test_recipes_by_name_and_by_model():
    assert find_recipe("wrn") is RECIPES["wrn"]
    with pytest.raises(RecipeError, match="resnet-cifar"):
        find_recipe("resnet")
    expected = {
        "resnet20": "resnet-cifar",
        "plain56": "resnet-cifar",
        "resnet110": "resnet110-cifar",
        "resnet110-bn-after-addition": "resnet110-cifar",
        "plain110": "resnet110-cifar",
        "preact110": "resnet110-cifar",
        "preact164": "resnet-cifar",
        "se-resnet56": "resnet-cifar",
        "ho-resnet26-rk4": "resnet-cifar",
        "wrn-28-10": "wrn",
        "se-wrn-16-8": "wrn",
        "resnext29-8x64d": "resnext",
        "se-resnext29-8x64d": "resnext",
        "res2next29-6c-24w-4s": "resnext",
        "stochastic-depth-110": "stochastic-depth",
        "densenet-bc-100-12": "densenet",
        "lenet5": "alexnet",
    }
    assert {card(model).name: recipe_for(model).name for model in expected} == expected


def test_json_and_back():
    for recipe in RECIPES.values():
        assert Recipe(**json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_images_are_padded_as_in_the_papers(name):
    assert RECIPES[name].augment
    assert RECIPES[name].padding == ("reflect" if name == "wrn" else "mean")
