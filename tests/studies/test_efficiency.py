"""Published numbers on efficiency."""

import pytest

from cnnlib.models import card
from cnnlib.studies.efficiency import (
    ALEXNET_LEVEL,
    SCALED,
    doubling_months,
    milestones_table,
    scaled_table,
    years_between,
)


def test_each_milestone_is_later_and_cheaper():
    dates, computes = zip(*((point.date, point.compute) for point in ALEXNET_LEVEL), strict=True)
    assert list(dates) == sorted(dates)
    assert list(computes) == sorted(computes, reverse=True)
    assert all(card(point.model).dataset == "ImageNet" for point in ALEXNET_LEVEL)


def test_computed_reductions_are_those_printed():
    for point in ALEXNET_LEVEL:
        assert ALEXNET_LEVEL[0].compute / point.compute == pytest.approx(point.reduction, rel=0.035)


def test_rates():
    first, last = ALEXNET_LEVEL[0], ALEXNET_LEVEL[-1]
    assert years_between(first, last) == pytest.approx(6.99, abs=0.01)
    assert doubling_months(first, last) == pytest.approx(15.3, abs=0.05)
    assert first.operations == pytest.approx(3.1e12 * 86_400)


def test_scaled_nets_cost_alike_and_all_three_is_best():
    networks = {row.network: [r for r in SCALED if r.network == row.network] for row in SCALED}
    for base, *scaled in networks.values():
        costs = [row.operations for row in scaled]
        assert max(costs) < 1.2 * min(costs)
        assert min(scaled, key=lambda row: row.error).way == "all three"
        assert all(row.error < base.error for row in scaled)


def test_tables():
    assert milestones_table().rows[-1] == ("EfficientNet-B0", "2019-05-28", "0.069", "44.9", "44")
    assert scaled_table().rows[1] == (
        *("ResNet-50", "24.0  (4.1G)", "21.9  (16.2G)", "22.3  (14.7G)"),
        *("22.5  (16.4G)", "21.2  (16.7G)"),
    )
