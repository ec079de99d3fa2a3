"""Times of layers and networks: measured, recorded, shown."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from cnnlib.data import shapes10
from cnnlib.studies import RecordError, Speed, StudyError, layer_times, load_speeds, measure_speed
from cnnlib.studies import speed as speed_module
from cnnlib.studies.speed import BATCHES, CHANNELS, KINDS, NETS, PASSES
from cnnlib.training import ArgumentError
from cnnlib.training.bench import Limits

SMALL = {"channels": (4, 8), "batches": (2,), "rounds": 2, "seconds": 1e-4}


@pytest.fixture(scope="module")
def speed():
    return Speed(
        hardware="a laptop",
        device_type="cpu",
        limits=Limits(operations=2e12, bytes=3e11),
        layers=layer_times(device="cpu", precision="fp32", **SMALL),
    )


def with_seconds(speed, **seconds):
    """The same with other times, by the first word of the kind."""
    layers = [dataclasses.replace(row, seconds=(seconds[row.kind.split()[0]],)) for row in speed.layers]
    return dataclasses.replace(speed, layers=tuple(layers))


def test_every_layer_is_timed_in_every_round(speed):
    assert len(speed.layers) == len(KINDS) * len(PASSES) * 2
    assert all(len(row.seconds) == 2 and min(row.seconds) > 0 for row in speed.layers)


def test_layers_are_timed_as_they_are_trained(monkeypatch):
    def seconds(*_):
        flags = torch.backends.cudnn
        assert (flags.allow_tf32, flags.deterministic, flags.benchmark) == (False, True, False)
        return 1.0

    monkeypatch.setattr(speed_module, "_seconds", seconds)
    assert layer_times(device="cpu", precision="fp32", **SMALL)[0].seconds == (1.0, 1.0)


def test_multiply_adds_are_those_of_the_lecture(speed):
    pixels, C = 2 * 16 * 16, 8
    work = {kind: speed.layer(kind, C, 2).multiply_adds for kind in KINDS}
    assert work["dense 3x3"] == 9 * C * C * pixels
    assert work["depthwise 3x3"] == 9 * C * pixels
    assert work["separable"] == work["depthwise 3x3"] + work["pointwise 1x1"] == (9 * C + C * C) * pixels
    assert speed.layer("separable", C, 2, "training").multiply_adds == 3 * work["separable"]


def test_bytes_are_maps_and_weights_once_forward_and_thrice_in_training(speed):
    maps, weights = 4 * 8 * 2 * 16 * 16, 4 * 8 * 8 * 9
    assert speed.layer("dense 3x3", 8, 2).bytes == 2 * maps + weights
    assert speed.layer("dense 3x3", 8, 2, "training").bytes == 3 * (2 * maps + weights)
    assert speed.layer("separable", 8, 2).bytes == 4 * maps + 4 * 8 * 9 + 4 * 8 * 8


def test_a_time_is_that_of_one_call(monkeypatch):
    calls = []
    monkeypatch.setattr(speed_module, "time", SimpleNamespace(perf_counter=lambda: 3.0 * len(calls)))
    assert speed_module._seconds(lambda: calls.append(1), torch.device("cpu"), 4) == 3.0


def test_training_computes_the_gradients_of_the_images_and_of_all_weights():
    layer = speed_module._layer("separable", 8)
    images = torch.randn(2, 8, 4, 4, requires_grad=True)
    gradients = speed_module._turn(layer, images, "training")()
    assert [g.shape for g in gradients] == [images.shape, *(weight.shape for weight in layer.parameters())]
    assert speed_module._turn(layer, images, "forward")() is None


def test_rates_follow_from_counts_and_times(speed):
    row = dataclasses.replace(speed.layers[0], seconds=(9.0, 2.0, 3.0), multiply_adds=10, bytes=4)
    assert (row.least, row.operations_per_second, row.bytes_per_second, row.intensity) == (2.0, 10.0, 2.0, 5.0)


def test_the_table_sets_fewer_multiply_adds_against_less_time(speed):
    speed = with_seconds(speed, dense=0.006, depthwise=0.001, pointwise=0.002, separable=0.003)
    row = speed.table(2).rows[1]
    assert row[:6] == ("8", f"{9 * 8 / (9 + 8):.1f}", "2.0", "6.00", "1.00", "2.00")
    assert "2,000 GFLOP/s" in str(speed.table(2))
    with pytest.raises(StudyError, match="no time of a dense 3x3"):
        speed.layer("dense 3x3", 5, 2)


def test_what_was_not_measured_makes_no_table(speed):
    with pytest.raises(StudyError, match="no times of batch 7, training"):
        speed.table(7, "training")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"channels": (4, 0)}, "channels"), ({"batches": (1.5,)}, "batches"), ({"seconds": 0}, "seconds")],
)
def test_sizes_that_make_no_layer_are_refused(wrong, named):
    with pytest.raises(ArgumentError, match=f"{named} must be"):
        layer_times(device="cpu", precision="fp32", **{**SMALL, **wrong})


def test_an_unknown_precision_is_refused():
    with pytest.raises(ArgumentError, match="fp32, bf16, fp16"):
        layer_times(precision="fp8")


def test_a_record_comes_back_as_it_was(speed, tmp_path):
    data = dataclasses.replace(shapes10(train=10, test=10), name="CIFAR-10")
    few = {**SMALL, "channels": (4,), "rounds": 1, "batch_size": 2}
    whole = measure_speed(data, device="cpu", precision="fp32", **few)
    assert list(whole.nets.seconds) == list(NETS)
    assert "fp32, eager" in whole.hardware
    assert Speed.load(whole.save(tmp_path / "b.json")) == whole
    gpu = dataclasses.replace(speed, device_type="cuda", hardware="a GPU")
    gpu.save(tmp_path / "a.json")
    assert load_speeds(tmp_path) == [whole, gpu]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "nets": null}'])
def test_what_is_no_record_is_refused(text, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"bad\.json holds no record of times"):
        Speed.load(path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"there is no folder .*typo"):
        load_speeds(tmp_path / "typo")


def test_shipped_records_are_complete():
    assert "cpu" in [speed.device_type for speed in load_speeds()]
    for speed in load_speeds():
        assert {(row.channels, row.batch_size) for row in speed.layers} == {(c, b) for c in CHANNELS for b in BATCHES}
        assert speed.nets
        assert list(speed.nets.seconds) == list(NETS)


def test_where_no_record_can_be_written_nothing_is_measured(cnn, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.speed.measure_speed", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "here").mkdir()
    status, _, err = cnn("speed", "--layers-only", "--out", "here")
    assert (status, err) == (2, "error: cannot use here: Is a directory\n")


@pytest.mark.parametrize("layers_only", [True, False])
def test_the_command_measures_and_records(layers_only, cnn, tmp_path, monkeypatch):
    def measure(data, device, precision, rounds):
        assert (data is None, device, rounds) == (layers_only, "cpu", 1)
        layers = layer_times(channels=(4,), batches=BATCHES, rounds=1, seconds=1e-4, device="cpu", precision="fp32")
        return Speed("here", "cpu", Limits(1e12, 1e11), layers)

    monkeypatch.setattr("cnnlib.studies.speed.measure_speed", measure)
    options = ("--rounds", "1", "--device", "cpu", "--out", "here/speed.json")
    threads = torch.get_num_threads()
    status, out, _ = cnn("speed", *options, *(["--layers-only"] if layers_only else []))
    torch.set_num_threads(threads)
    assert status == 0
    assert out.count("on here") == len(BATCHES) * len(PASSES)
    assert json.loads((tmp_path / "here" / "speed.json").read_text())["hardware"] == "here"


def test_each_layer_and_pass_has_its_own_time_in_the_precision_and_layout_of_a_training(monkeypatch):
    layers = []

    def turn(layer, x, work):
        for tensor in (x, *layer.parameters()):
            assert tensor.dtype == torch.bfloat16
            assert tensor.is_contiguous(memory_format=torch.channels_last)
        layers.append(layer)
        kind = (len(layers) - 1) // len(PASSES) % len(KINDS)
        assert repr(layer) == repr(speed_module._layer(KINDS[kind], x.shape[1]))
        return lambda: 10 * kind + PASSES.index(work) + 1

    monkeypatch.setattr(speed_module, "_turn", turn)
    monkeypatch.setattr(speed_module, "_repeats", lambda turn, *_: turn() + 5)
    monkeypatch.setattr(speed_module, "_seconds", lambda turn, _, repeats: (turn(), repeats))
    for row in layer_times(device="cpu", precision="bf16", **SMALL):
        own = 10 * KINDS.index(row.kind) + PASSES.index(row.work) + 1
        assert row.seconds == 2 * ((own, own + 5),)


@pytest.mark.parametrize("work", PASSES)
def test_the_table_has_the_rates_of_its_own_pass(speed, work):
    times = {"dense": 0.006, "depthwise": 0.001, "pointwise": 0.002, "separable": 0.003}
    layers = tuple(
        dataclasses.replace(row, seconds=(times[row.kind.split()[0]] * (3 if row.work == "training" else 1),))
        for row in speed.layers
    )
    table = dataclasses.replace(speed, layers=layers).table(2, work)
    dense, depthwise = 2 * 9 * 8 * 8 * 512 / 0.006, 2 * 9 * 8 * 512 / 0.001  # as fast in either pass
    moved = (4 * (2 * 8 * 512 + 9 * 8)) / 0.001
    rates = [dense / 1e9, depthwise / 1e9, moved / 1e9]
    assert table.rows[1][6:] == tuple(speed_module._three_digits(rate) for rate in rates)
    assert table.rows[1][3:6] == (("6.00", "1.00", "2.00") if work == "forward" else ("18.0", "3.00", "6.00"))
    assert "a copy moves 300 GB/s" in " ".join(str(table).split())


def test_all_of_a_device_is_measured_in_one_precision(data, monkeypatch):
    asked = []
    monkeypatch.setattr(speed_module, "limits", lambda device, precision: asked.append(("limits", precision)))
    monkeypatch.setattr(
        speed_module, "layer_times", lambda *, device, **options: asked.append(("layers", *options.items()))
    )
    monkeypatch.setattr(
        speed_module, "step_times", lambda _, nets, *, device, **options: asked.append((nets, *sorted(options.items())))
    )
    found = measure_speed(data, device="cpu", precision="bf16", rounds=7, batch_size=3, seconds=0.5)
    assert asked == [
        ("limits", "bf16"),
        ("layers", ("precision", "bf16"), ("rounds", 7), ("seconds", 0.5)),
        (NETS, ("batch_size", 3), ("precision", "bf16"), ("rounds", 7)),
    ]
    assert "bf16" in found.hardware


def test_repeats_take_about_the_time_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(speed_module, "_seconds", lambda turn, device, repeats: {1: 9.0, 2: 0.01}[repeats])
    assert speed_module._repeats(None, torch.device("cpu"), 0.2) == 20
    assert speed_module._repeats(None, torch.device("cpu"), 0.001) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"operations": "fast", "bytes": 1}},
        {"nets": {"hardware": "a", "batch_size": 1, "seconds": {}, "work": {}}},
    ],
)
def test_a_record_that_makes_no_table_is_refused(speed, tmp_path, change):
    path = speed.save(tmp_path / "bad.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=r"bad\.json holds no record of times \(.*\); delete it"):
        Speed.load(path)


@pytest.mark.parametrize("seconds", [[], [0.0], ["1"]])
def test_times_that_are_none_are_refused(speed, tmp_path, seconds):
    path = speed.save(tmp_path / "bad.json")
    content = json.loads(path.read_text())
    content["layers"][0]["seconds"] = seconds
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"bad\.json holds no record of times"):
        Speed.load(path)


def test_times_of_another_version_are_not_to_be_deleted(speed, tmp_path):
    path = speed.save(tmp_path / "later.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RecordError, match=r"holds no record of times .*; read it with the version of cnnlib"):
        Speed.load(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data": "cifar10"}, r"data must be images, such as cnnlib.load_data\('cifar10'\), or None, not 'cifar10'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"data": shapes10(train=10, test=10), "batch_size": 11}, "has 10 training images, too few for batch_size=11"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_the_first_measurement(wrong, said, monkeypatch):
    monkeypatch.setattr(speed_module, "limits", None)
    monkeypatch.setattr(speed_module, "layer_times", None)
    with pytest.raises(ArgumentError, match=said):
        measure_speed(**{"data": None, "device": "cpu", **wrong})
