"""The explorer's numbers are PyTorch's, for every setting of its sliders."""

import itertools
import json
import re

import pytest
import torch
from torch import nn

from cnnlib.explore import convolution
from cnnlib.explore.convolution import PRESETS, RANGES, OutOfRange, Walk, conv_arithmetic, table
from cnnlib.measure import DoesNotFit, conv_output_size

SETTINGS = list(itertools.product(*RANGES.values()))


def embedded(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])


def by_torch(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    try:
        return conv(torch.empty(1, 1, size, size, device="meta")).shape[-1]
    except RuntimeError:
        return 0


def by_measure(*setting: int) -> int:
    try:
        return conv_output_size(*setting)
    except DoesNotFit:
        return 0


def test_embedded_table_is_measures_and_torchs():
    data = embedded(conv_arithmetic().html)
    assert data["ranges"] == [[values[0], len(values)] for values in RANGES.values()]
    entries = [divmod(data["alphabet"].index(character), 4) for character in data["table"]]
    assert len(entries) == len(SETTINGS) == 4032
    for setting, (output, remainder) in zip(SETTINGS, entries, strict=True):
        assert output == by_measure(*setting), setting
        if output:
            size, kernel, stride, padding, dilation = setting
            assert remainder == (size + 2 * padding - dilation * (kernel - 1) - 1) % stride, setting
    for setting, (output, _) in list(zip(SETTINGS, entries, strict=True))[::5]:
        assert output == by_torch(*setting), setting


def test_taps_and_unseen_cells_are_those_of_a_convolution():
    for setting in SETTINGS[::37]:
        walk = Walk(*setting)
        if not walk.output:
            continue
        conv = nn.Conv1d(1, 1, walk.kernel, walk.stride, 0, walk.dilation, bias=False)
        nn.init.ones_(conv.weight)
        padded = torch.zeros(1, 1, walk.padded, requires_grad=True)
        out = conv(padded)[0, 0]
        for position in (0, walk.output - 1):
            (gradient,) = torch.autograd.grad(out[position], padded, retain_graph=True)
            assert gradient[0, 0].nonzero().flatten().tolist() == walk.taps(position)
        (gradient,) = torch.autograd.grad(out.sum(), padded)
        assert (gradient[0, 0] == 0).nonzero().flatten().tolist() == walk.unseen()
        tail = range(walk.padded - walk.remainder, walk.padded)
        assert set(tail) <= set(walk.unseen())


def test_first_frame_stands_without_script():
    html = re.sub(r"<script.*?</script>", "", conv_arithmetic(size=7, kernel=3, stride=2, padding=1).html)
    assert "fits 4 times along each side: the output is 4 × 4" in html
    assert html.count("<svg") == 2
    assert 'class="window"' in html


def test_remainder_is_said_and_drawn():
    shown = conv_arithmetic(size=12, kernel=7, stride=4)
    assert "the last row and column are never seen (hatched)" in repr(shown)
    assert 'class="never" d="M0 11h12v1h-12zM11 0h1v12h-1z"' in shown.html
    assert "Only padding" not in repr(shown)
    assert "Only padding is lost" in repr(conv_arithmetic(size=12, kernel=7, stride=4, padding=2))
    assert "the last 3 rows" in repr(conv_arithmetic(size=11, kernel=4, stride=4))


def test_gaps_between_taps_are_said():
    assert "Between the taps, one row" in repr(conv_arithmetic(size=3, kernel=1, stride=2))
    assert "Between the taps, 3 rows" in repr(conv_arithmetic(size=7, kernel=1, stride=2))
    assert "Between" not in repr(conv_arithmetic(size=7, kernel=3, stride=2))


def test_window_that_does_not_fit_is_an_error_state():
    shown = conv_arithmetic(size=5, kernel=4, dilation=2)
    assert "does not fit. The window spans 7, but the padded input is only 5 wide" in repr(shown)
    assert "add padding" in repr(shown)
    assert 'class="outcome error"' in shown.html
    assert "no output" in shown.html
    assert 'class="window unfit"' in shown.html


def test_formula_shows_symbols_and_numbers():
    html = conv_arithmetic(size=12, kernel=7, stride=4, padding=2).html
    formula = re.search(r'<div class="formula">(.*?)</div>', html)[1]
    words = re.sub(r"<[^>]+>", "", formula)
    assert words == (
        "W′ = the floor of W + 2·P − D·(F − 1) − 1 divided by S + 1"
        "= the floor of 12 + 2·2 − 1·(7 − 1) − 1 divided by 4 + 1= the floor of 9 divided by 4 + 1 = 3"
    )


def test_presets_are_settings_and_carry_alexnets_remainders():
    for setting in PRESETS.values():
        assert all(value in values for value, values in zip(setting, RANGES.values(), strict=True))
    assert Walk(*PRESETS["AlexNet, 227"]).remainder == (227 - 11) % 4 == 0
    assert Walk(*PRESETS["AlexNet, 224"]).remainder == (224 - 11) % 4 == 1
    assert Walk(*PRESETS["224, padded"]).remainder == (224 + 4 - 11) % 4 == 1
    assert Walk(*PRESETS["Too small"]).output == 0


def test_pressed_preset_is_the_setting():
    pressed = re.findall(r'aria-pressed="true">([^<]+)<', conv_arithmetic(size=9, kernel=3, padding=0, dilation=2).html)
    assert pressed == ["Dilated"]


@pytest.mark.parametrize(
    ("name", "value"), [("size", 2), ("kernel", 8), ("stride", 0), ("padding", -1), ("dilation", 4)]
)
def test_setting_outside_the_sliders_is_refused(name, value):
    with pytest.raises(OutOfRange, match=f"no {name} {value}; choose from"):
        conv_arithmetic(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("size", "7"), ("kernel", 3.0)])
def test_what_is_no_whole_number_is_refused(name, value):
    with pytest.raises(OutOfRange, match=f"{name} must be a whole number, not {value!r}"):
        conv_arithmetic(**{name: value})


def test_output_is_small_deterministic_and_self_contained():
    html = conv_arithmetic(id="a").html
    convolution.table.cache_clear()
    assert html == conv_arithmetic(id="a").html
    assert len(html.encode()) < 30_000
    assert not re.search(r"(src|href)=|https?://|@import", html)
    assert html.count('id="a"') == 1


def test_controls_are_labelled():
    html = conv_arithmetic().html
    assert len(re.findall(r"<label[^>]*>.*?<input type=\"range\"[^>]*></label>", html)) == 5
    assert all("aria-label" in svg for svg in re.findall(r"<svg[^>]*>", html))
    assert '<figcaption aria-live="polite">' in html


def test_table_characters_survive_a_script_element():
    assert not set(table()) & set("<>&\\\"'")
