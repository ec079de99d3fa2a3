import pytest

from cnnlib.training import RecipeError
from cnnlib.training.bench import Bench, bench


def test_both_loops_train_in_turns(data):
    result = bench(data, "alexnet-cifar", batch_size=8, rounds=3, steps=2, workers=0)
    assert len(result.ours) == len(result.usual) == 3
    assert min(result.ours + result.usual) > 0
    text = str(result)
    assert "Training alexnet-cifar, batch 8" in text
    assert f"{result.ratio:.2f} times as fast (median of 3 alternating rounds" in text


def test_with_workers(data):
    assert bench(data, "alexnet-cifar", batch_size=8, rounds=1, steps=2, workers=1).workers == 1


def test_the_ratio_is_the_median_of_the_rounds():
    result = Bench("m", 8, "cpu", 2, usual=(100.0, 50.0, 100.0), ours=(200.0, 500.0, 300.0))
    assert result.ratio == 3.0
    assert "2.00 to 10.00" in str(result)


def test_too_few_images(data):
    with pytest.raises(RecipeError, match="97"):
        bench(data, "alexnet-cifar", batch_size=97)
