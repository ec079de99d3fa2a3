"""Searches with records: what is trained and tested, what is recorded, what the table says."""

import contextlib
import dataclasses
import json

import pytest
import torch

from cnnlib.data import shapes10
from cnnlib.files import locked
from cnnlib.measure import count_parameters
from cnnlib.search import network
from cnnlib.settings import UnknownDevice
from cnnlib.studies import RecordError, StudyError, Unfinished, search
from cnnlib.training import Diverged, Interrupted


@pytest.fixture(scope="module")
def images():
    return dataclasses.replace(shapes10(train=200, test=150), name="CIFAR-10")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def runs(images, folder):
    return search.run(budget="smoke", data=images, folder=folder, progress=False)


def on_fewer_images(run):
    """The same search with fewer training images, and with fewer test images."""
    for fewer in ({"train_images": 100}, {"test": dataclasses.replace(run.run.test, n=100)}):
        yield dataclasses.replace(run, run=dataclasses.replace(run.run, **fewer))


def test_every_way_is_searched_trained_and_tested(runs):
    assert [(run.arm, run.seed) for run in runs] == [(arm, 0) for arm in search.ARMS]
    for run in runs:
        assert (run.run.steps, run.run.train_images, run.run.test.n) == (2, 128, 128)
        assert run.run.parameters == count_parameters(network(run.found.plan, channels=4))
        assert run.found.trained_images == (0 if run.arm == "none" else 32)


def test_the_test_images_are_looked_at_once(images, runs, monkeypatch):
    longer = dataclasses.replace(search.SCALES["smoke"], final=20)  # two passes over the images and a half
    monkeypatch.setitem(search.SCALES, "smoke", longer)
    small = dataclasses.replace(images, train_images=images.train_images[:128], train_labels=images.train_labels[:128])
    run = search.train(runs[0].found.plan, small, "smoke", progress=False)
    assert [(point.step, point.test_error is None) for point in run.history] == [(8, True), (16, True), (20, False)]


def test_no_test_image_reaches_a_search(images, monkeypatch):
    seen = []
    original = search.search
    monkeypatch.setattr(
        search, "search", lambda way, parts, *a, **k: seen.append(parts) or original(way, parts, *a, **k)
    )
    search.run(budget="smoke", arms=["enas"], data=images, progress=False)
    (parts,) = seen
    training = {image.numpy().tobytes() for image in images.train_images}
    assert {image.numpy().tobytes() for image in parts.images} <= training
    assert {image.numpy().tobytes() for image in parts.data.train_images} <= training
    assert len(parts.data.test_images) == 0


def test_records_come_back_equal(runs, folder):
    paths = sorted((folder / "search").iterdir())
    assert [path.name for path in paths] == sorted(f"smoke-{arm}-seed0.json" for arm in search.ARMS)
    before = torch.get_rng_state()
    assert search.load_records("smoke", folder) == runs
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are not taken"
    assert search.load_records("short", folder) == []


def test_shipped_records_fit():
    assert len(search.load_records()) >= 15  # each is compared with the schema as it is read


def test_what_is_recorded_is_not_done_again(runs, images, folder, monkeypatch):
    monkeypatch.setattr(search, "_one", lambda *_: pytest.fail("searched again"))
    assert search.run(budget="smoke", data=images, folder=folder, progress=False) == runs


def test_nothing_is_searched_beside_a_record_that_does_not_fit(runs, images, tmp_path, monkeypatch):
    dataclasses.replace(runs[-1], effort=dataclasses.replace(runs[-1].effort, updates=99)).save(tmp_path)
    monkeypatch.setattr(search, "_one", lambda *_: pytest.fail("searched before"))
    with pytest.raises(RecordError, match="updates is 99, not 2"):
        search.run(budget="smoke", data=images, folder=tmp_path, progress=False)


def test_a_record_on_other_images_is_refused(runs, folder, images, tmp_path):
    with pytest.raises(RecordError, match="test_images is 128, not 20"):
        search.run(budget="smoke", data=images.subset(128, test=20), folder=folder, progress=False)
    for few in on_fewer_images(runs[0]):
        few.save(tmp_path)
        with pytest.raises(RecordError, match=r"(train|test)_images is 100, not 128"):
            search.run(budget="smoke", arms=["none"], data=images, folder=tmp_path, progress=False)


def test_seeds_are_recorded_one_by_one(images, tmp_path, monkeypatch):
    one, made = search._one, []

    def dying(arm, seed, *others):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(seed)
        return one(arm, seed, *others)

    monkeypatch.setattr(search, "_one", dying)
    options = {"budget": "smoke", "arms": ["none"], "seeds": [0, 1, 2], "data": images, "folder": tmp_path}
    with pytest.raises(Interrupted, match=f"stopped in none, seed 2; .* skips what is recorded in {tmp_path}/search"):
        search.run(**options, progress=False)
    with pytest.raises(Interrupted, match="seed 0; without a folder nothing is kept"):
        search.run(**options | {"folder": None}, progress=False)
    made.clear()
    assert [run.seed for run in search.run(**options, progress=False)] == [0, 1, 2]
    assert made == [2]


def test_what_another_process_searches_is_left_to_it(images, tmp_path):
    options = {"budget": "smoke", "arms": ["none"], "seeds": [0, 1], "data": images, "folder": tmp_path}
    with (
        locked(tmp_path / "search" / "smoke-none-seed1.json", wait=False),
        pytest.raises(Unfinished, match="none, seed 1: another process has it in hand") as error,
    ):
        search.run(**options, progress=False)
    assert [run.seed for run in error.value.finished] == [0]
    assert [run.seed for run in search.run(**options, progress=False)] == [0, 1]


def test_what_another_process_has_searched_meanwhile_is_taken(images, runs, tmp_path, monkeypatch):
    """Two processes share the queue: what one leaves to the other is recorded when it has come to its end."""
    taken, other = contextlib.ExitStack(), next(run for run in runs if run.arm == "none")
    taken.enter_context(locked(tmp_path / "search" / "smoke-none-seed0.json", wait=False))
    trained = search.train

    def train(*arguments):
        other.save(tmp_path)
        taken.close()
        return trained(*arguments)

    monkeypatch.setattr(search, "train", train)
    options = {"budget": "smoke", "arms": ["none"], "seeds": [0, 1], "data": images, "folder": tmp_path}
    assert [run.seed for run in search.run(**options, progress=False)] == [0, 1]


def test_seeds_and_ways_are_sequences(images):
    for single in ({"seeds": 0}, {"arms": "none"}):
        with pytest.raises(StudyError, match=r"sequences, even of one: (arms=\['none'\]|seeds=\[0\])"):
            search.run(budget="smoke", data=images, **single)


def test_a_way_that_fails_does_not_stop_the_others(images, tmp_path, monkeypatch):
    search_cell = search.search

    def failing(arm, *arguments, **options):
        if arm == "enas":
            raise Diverged("the loss is nan")
        return search_cell(arm, *arguments, **options)

    monkeypatch.setattr(search, "search", failing)
    failed = r"1 of 2 trainings are not done.*\nsearch, enas, seed 0: the loss is nan$"
    with pytest.raises(Unfinished, match=failed) as error:
        search.run(budget="smoke", arms=["enas", "none"], data=images, folder=tmp_path, progress=False)
    assert [run.arm for run in search.load_records("smoke", tmp_path)] == ["none"]
    assert error.value.finished == search.load_records("smoke", tmp_path)
    with pytest.raises(Diverged):
        search.run(budget="smoke", arms=["enas", "none"], data=images, progress=False)


def test_ways_and_seeds_named_twice_are_searched_once(images):
    runs = search.run(budget="smoke", arms=["none", "none"], seeds=[7, 3, 7], data=images, progress=False)
    assert [run.seed for run in runs] == [7, 3]


@pytest.mark.parametrize("arm", ["none", "random-own"])
def test_another_seed_finds_another_cell(images, monkeypatch, arm):
    monkeypatch.setattr(search, "train", lambda *_: None)
    runs = search.run(budget="smoke", arms=[arm], seeds=range(2), data=images, progress=False)
    assert runs[0].found.plan != runs[1].found.plan


def test_a_record_of_another_search_is_refused(runs, tmp_path):
    other = dataclasses.replace(runs[-1], effort=dataclasses.replace(runs[-1].effort, updates=99))
    other.save(tmp_path)
    with pytest.raises(RecordError, match="updates is 99, not 2"):
        search.load_records(folder=tmp_path)
    network = dataclasses.replace(runs[-1].run, parameters=7)
    dataclasses.replace(runs[-1], run=network).save(tmp_path)
    with pytest.raises(RecordError, match="parameters is 7, not"):
        search.load_records(folder=tmp_path)


def test_a_copy_under_another_name_is_refused(runs, images, tmp_path):
    runs[0].save(tmp_path).rename(tmp_path / "search" / "smoke-none-seed3.json")
    with pytest.raises(RecordError, match=r"smoke-none-seed3\.json holds .* belongs in smoke-none-seed0\.json"):
        search.run(budget="smoke", arms=["none"], seeds=[3], data=images, folder=tmp_path, progress=False)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "arm": "enas"}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    path = tmp_path / "search" / "smoke-enas-seed0.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RecordError, match="holds no record of a search"):
        search.load_records(folder=tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content["run"].update(seconds="9"), r"\$\.run\.seconds: '9' is not of type 'number'"),
        (lambda content: content["found"].update(reward=2), r"\$\.found\.reward: 2 is greater than"),
        (lambda content: content["found"]["plan"].__setitem__(0, 99), "no cell of this space"),
        (lambda content: content["effort"].update(steps=0.5), "steps"),
        (lambda content: content["effort"].update(surprise=1), "argument 'surprise'"),
    ],
)
def test_a_record_that_does_not_fit_the_schema_is_named_and_what_is_wrong_in_it(runs, tmp_path, spoil, said):
    (found,) = (run for run in runs if run.arm == "enas")
    content = json.loads(found.save(tmp_path / "sound").read_text())
    spoil(content)
    path = tmp_path / "search" / "smoke-enas-seed0.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"smoke-enas-seed0\.json holds no record of a search \(.*{said}"):
        search.load_records(folder=tmp_path)


def test_a_stand_in_is_named_and_never_published(images, tmp_path):
    shapes = dataclasses.replace(images, name="Shapes-10", stands_in_for="CIFAR-10")
    (run,) = search.run(budget="smoke", arms=["none"], data=shapes, folder=tmp_path, progress=False)
    assert run.file_name == "smoke-none-seed0-shapes-10.json"
    assert "SHAPES-10, IN PLACE OF CIFAR-10: NOT COMPARABLE" in str(search.table([run]))
    with pytest.raises(RecordError, match="stood in for CIFAR-10"):
        search.publish("smoke", tmp_path, destination=tmp_path / "shipped")


def test_publishing(runs, folder, tmp_path):
    paths = search.publish("smoke", folder, destination=tmp_path)
    assert len(paths) == len(runs)
    assert search.load_records(folder=tmp_path) == runs


def test_where_no_record_lies_nothing_is_published(tmp_path):
    with pytest.raises(RecordError, match=r"there are no records of the budget smoke in .*typo"):
        search.publish("smoke", tmp_path / "typo", destination=tmp_path)


def test_live_searches_are_joined_by_recorded_ones(runs, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "SHIPPED", tmp_path)
    recorded = [dataclasses.replace(run, seed=seed) for run in runs for seed in (0, 1)]
    for run in recorded:
        dataclasses.replace(run, run=dataclasses.replace(run.run, seed=run.seed)).save(tmp_path)
    joined = search.with_recorded([runs[-1]])
    assert [(run.arm, run.seed) for run in joined] == [(arm, seed) for arm in search.ARMS for seed in (0, 1)]
    assert joined[-2] is runs[-1]
    assert search.with_recorded([]) == []
    monkeypatch.setattr(search, "load_records", lambda budget: recorded)
    for few in on_fewer_images(runs[-1]):
        assert search.with_recorded([few]) == [few]


def test_the_table_ranks_no_single_run(runs):
    text = str(search.table(runs)).replace("\n", " ")
    assert "CIFAR-10, smoke" in text
    assert "no difference shown between any two of no search; random, own weights; NAS; random" in text


def test_the_table_gives_means_over_seeds(runs):
    def one(arm, seed, error):
        run = next(run for run in runs if run.arm == arm)
        tested = dataclasses.replace(run.run.test, error=error)
        return dataclasses.replace(run, seed=seed, run=dataclasses.replace(run.run, test=tested, seed=seed))

    made = [one("enas", seed, 20.0 + seed) for seed in range(3)] + [one("none", seed, 40.0 + seed) for seed in range(3)]
    made_table = search.table(made)
    assert [row[-1] for row in made_table.rows] == ["41.00 ± 1.00 (3)", "21.00 ± 1.00 (3)"]
    assert "test error: ENAS is lower than no search by 20.00 points." in made_table.notes


def test_search_times_are_medians_on_one_machine(runs):
    def took(seconds, seed, **there):
        found = dataclasses.replace(runs[-1].found, seconds=seconds)
        return dataclasses.replace(runs[-1], seed=seed, found=found, run=dataclasses.replace(runs[-1].run, **there))

    def shown(*made):
        made_table = search.table(made)
        (row,) = made_table.rows
        return row[[column.heading for column in made_table.columns].index("search time, median")]

    assert shown(took(60, 0), took(2400, 1), took(61.4, 2)) == "61"
    assert shown(took(60, 0), took(61, 1, device="another")) == "–"


def test_searches_of_different_budgets_are_not_compared(runs):
    with pytest.raises(StudyError, match="one budget"):
        search.table([runs[0], dataclasses.replace(runs[1], budget="short")])
    for few in on_fewer_images(runs[1]):
        with pytest.raises(StudyError, match="equally many training images"):
            search.table([runs[0], few])
    with pytest.raises(StudyError, match=r"more than one record of none seed 0 \(smoke\)"):
        search.table([runs[0], *runs])
    with pytest.raises(StudyError, match="one budget"):
        search.table([])


def test_an_unknown_way_is_refused(images):
    with pytest.raises(StudyError, match="no way 'evolution'"):
        search.run(budget="smoke", arms=["evolution"], data=images, progress=False)


def test_searches_of_a_budget_spend_alike():
    for budget, scale in search.SCALES.items():
        assert scale.effort.steps % scale.effort.children == 0, "so that own weights get as many steps in all"
        assert scale.effort.train + scale.effort.validation <= (scale.images or 50_000)
        assert len(scale.seeds) >= (1 if budget == "smoke" else 3)
    assert search.SCALES["full"].recipe.full_length == ""


@pytest.mark.parametrize("failing", [None, "none"])
def test_the_command(cnn, tmp_path, monkeypatch, data, failing):
    def one(arm, *others):
        if arm == failing:
            raise Diverged("the loss is nan")
        return search_once(arm, *others)

    search_once = search._one
    monkeypatch.setattr(search, "_one", one)
    small = dataclasses.replace(
        search.SCALES["smoke"],
        effort=dataclasses.replace(search.SCALES["smoke"].effort, train=48, validation=16),
        images=64,
    )
    monkeypatch.setitem(search.SCALES, "smoke", small)
    monkeypatch.setattr(search, "SHIPPED", tmp_path / "shipped")
    status, out, err = cnn("search", "--budget", "smoke", "--arms", "none", "enas", "--publish", "--out", "here")
    assert status == (2 if failing else 0)
    assert ("none, seed 0: the loss is nan" in err) == bool(failing)
    assert "Which way to search finds the best cell?" in out
    count = 1 if failing else 2
    assert out.count("published ") == count
    assert len(list((tmp_path / "here" / "search").iterdir())) == count


def test_a_table_of_searches_that_cannot_be_made_hides_no_failure(cnn, monkeypatch, runs):
    def unfinished(**_):
        raise Unfinished(["enas, seed 0: the loss is nan"], [runs[0]])

    def refused(_):
        raise RecordError("these cannot be compared")

    monkeypatch.setattr(search, "run", unfinished)
    monkeypatch.setattr(search, "table", refused)
    status, _, err = cnn("search", "--budget", "smoke")
    assert status == 2
    assert "enas, seed 0: the loss is nan\nthese cannot be compared" in err


def test_the_same_cell_trains_to_the_same_network(images, runs):
    plan = runs[0].found.plan
    small = dataclasses.replace(images, train_images=images.train_images[:64], train_labels=images.train_labels[:64])
    torch.manual_seed(0)
    first = search.train(plan, small, "smoke", seed=3, progress=False)
    torch.manual_seed(1)
    again = search.train(plan, small, "smoke", seed=3, progress=False)
    assert first.history[-1].train_loss == again.history[-1].train_loss
    assert search.train(plan, small, "smoke", seed=4, progress=False).history != first.history


def test_the_cell_found_begins_with_other_weights_for_every_seed(images, monkeypatch):
    nets = []
    monkeypatch.setattr(search, "fit", lambda net, *_, **__: nets.append(net))
    plan = search.SPACE.plan((0,) * len(search.SPACE.choices))
    for seed in (0, 1, 1):
        search.train(plan, images, "smoke", seed=seed, progress=False)
    first, other, again = (net.fc.weight for net in nets)
    assert not torch.equal(first, other)
    assert torch.equal(other, again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 7}, "seed is 7, not 0"),
        ({"budget": "short"}, "budget is 'short', not 'smoke'"),
        ({"steps": 9}, "final steps is 9, not 2"),
    ],
)
def test_a_training_of_another_search_is_refused(runs, tmp_path, change, said):
    dataclasses.replace(runs[0], run=dataclasses.replace(runs[0].run, **change)).save(tmp_path)
    with pytest.raises(RecordError, match=f"is not of the search as it is now: .*{said}"):
        search.load_records(folder=tmp_path)


def test_what_is_no_device_or_no_images_is_refused_once(images, monkeypatch):
    with pytest.raises(StudyError, match=r"run needs images, such as .*, not 'cifar10'"):
        search.run(budget="smoke", data="cifar10")
    monkeypatch.setenv("CNNLIB_DEVICE", "gpu")
    with pytest.raises(UnknownDevice, match="no device 'gpu' here"):
        search.settled("smoke", None, None)


def test_a_record_of_another_version_is_not_to_be_deleted(runs, tmp_path):
    path = runs[0].save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RecordError, match=r"holds no record of a search .*; read it with the version of cnnlib"):
        search.load_records(folder=tmp_path)
