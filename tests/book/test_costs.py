"""The costs of trainings: computed from the records, for the page on scaling up."""

import dataclasses

import pytest
from cnnbook import costs
from cnnbook.costs import Speed

from cnnlib import RECIPES, card

RUNS = [record.run for records in costs.records().values() for record in records]
RUN = next(run for run in RUNS if run.model == "alexnet-cifar")


def run(model, speed, **changes):
    return dataclasses.replace(RUN, model=model, overrides={}, images_per_second=speed, **changes)


def test_speeds_are_medians_of_the_network_measured_most_often():
    runs = [run("resnet20", 100.0), run("resnet56", 10.0), run("resnet20", 300.0), run("resnet20", 110.0)]
    runs += [run("densenet-40-12", 7.0), run("resnet56", 1000.0, device="a GPU")]
    assert [(s.model, s.images_per_second, s.runs) for s in costs.speeds(runs)] == [
        ("resnet20", 110.0, 3),
        ("densenet-40-12", 7.0, 1),
        ("resnet56", 1000.0, 1),
    ]
    assert costs.speeds(runs)[0].multiply_adds == card("resnet20").multiply_adds


def test_long_trainings_say_more_than_short_ones():
    runs = [run("resnet20", 100.0, steps=10), run("resnet20", 300.0, steps=900), run("resnet56", 9.0, steps=20)]
    (speed,) = costs.speeds(runs)
    assert (speed.model, speed.images_per_second, speed.runs) == ("resnet20", 300.0, 1)
    on_gpu = {"device": "a GPU", "device_type": "cuda"}
    long, short = (run("resnet20", 5.0, steps=steps, **on_gpu) for steps in (1000, 999))
    assert len(costs.speeds([long])) == 1
    assert costs.speeds([short]) == []


def test_trainings_that_share_a_gpu_use_it_together():
    (speed,) = costs.speeds([run("resnet20", 1000.0, device="a GPU", device_type="cuda", together=8, steps=5000)])
    assert "8 trainings at a time" in speed.hardware
    assert costs.speed_cells(speed)[-1] == "1,000, together 8,000"
    alone = dataclasses.replace(speed, images_per_second=8000.0, together=1)
    assert costs.estimated([speed]) == costs.estimated([alone])


def test_options_of_a_study_are_counted():
    narrow = dataclasses.replace(run("alexnet-cifar", 1.0), overrides={"width": 0.5, "activation": "nn.Tanh"})
    (speed,) = costs.speeds([narrow])
    assert 0 < speed.multiply_adds < card("alexnet-cifar").multiply_adds / 2
    assert costs.speed_cells(speed)[0] == "`alexnet-cifar` (width=0.5, activation=nn.Tanh)"


def test_an_epoch_and_a_recipe_are_images_over_speed():
    table = costs.measured([Speed("resnet20", 40_600_000, "a laptop", 1000.0, 3)])
    recipe = RECIPES["resnet-cifar"]
    assert recipe.iterations * recipe.batch_size / 1000 == pytest.approx(2 * 3600 + 16 * 60 + 32)
    assert table.splitlines()[2] == "| `resnet20` | 40.6 M | a laptop | 1,000 | 50.0 s | 2 h 16 min (resnet-cifar) |"


def test_the_estimate_follows_the_best_rate():
    slow, fast = Speed("resnet20", 40_000_000, "a GPU", 1.0, 3), Speed("resnet56", 100_000_000, "a GPU", 40_000.0, 3)
    row = next(row for row in costs.estimated([slow, fast]).splitlines() if "resnet50" in row)
    cost = card("resnet50").multiply_adds
    images = 90 * (1_281_167 // 256) * 256
    days = images * cost / (100_000_000 * 40_000) / 86_400
    assert row == f"| `resnet50` | {cost / 1e6:,.0f} M | a GPU | {' | '.join(wanted(days / n) for n in (1, 4, 8))} |"


def test_networks_that_skip_blocks_say_nothing_of_the_rate():
    whole, skips = (
        Speed("resnet20", 40_600_000, "a GPU", 100.0, 3),
        Speed("stochastic-depth-20", 40_600_000, "a GPU", 140.0, 3),
    )
    assert costs.estimated([skips, whole]) == costs.estimated([whole])


def wanted(days):
    return costs.in_words(days * 86_400) if days < 2 else f"{days:,.0f} days"


def test_both_tables_come_from_the_records_of_the_package():
    found = costs.recorded()
    assert found == costs.speeds(RUNS)
    assert len(found) >= 1
    assert len(costs.measured(found).splitlines()) == 2 + len(found)
    hardware = {speed.hardware for speed in found}
    assert len(costs.estimated(found).splitlines()) == 2 + len(hardware) * len(costs.NETWORKS)
