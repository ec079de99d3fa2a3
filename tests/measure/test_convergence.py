import math

import pytest

from cnnlib.measure import BadArgument, convergence_order


@pytest.mark.parametrize("order", [1, 2, 4.5])
def test_the_order_of_a_power_is_its_exponent(order):
    assert convergence_order({h: 7 * h**order for h in (1, 0.5, 0.1)}) == pytest.approx(order)


def test_half_the_step_and_a_sixteenth_of_the_error_is_order_four():
    assert convergence_order({0.2: 1.6e-3, 0.1: 1e-4}) == pytest.approx(4)


@pytest.mark.parametrize(
    "errors",
    [
        *({}, {0.1: 1e-3}, {0.1: 1e-3, 0.05: 0.0}, {0.1: 1e-3, -0.1: 1e-3}),
        *({0.1: 1e-3, 0.05: math.nan}, {0.1: 1e-3, 0.05: math.inf}, {0.1: 1e-3, math.inf: 1e-3}),
    ],
)
def test_too_little_to_fit_is_refused(errors):
    with pytest.raises(BadArgument, match="two steps or more"):
        convergence_order(errors)
