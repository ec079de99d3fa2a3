import dataclasses
import math
import statistics
from dataclasses import replace
from itertools import combinations, starmap

import pytest
import torch

from cnnlib.measure import multiply_adds
from cnnlib.models import Published, create
from cnnlib.studies import Arm, RecordError, StudyError, compare, find_study, run, with_recorded
from cnnlib.studies.comparison import published, verdicts
from cnnlib.studies.ensembles import Ensemble, ensemble
from cnnlib.studies.statistics import differ, student, summarise
from cnnlib.training import RECIPES, Evaluation
from cnnlib.training.evaluation import predict


@pytest.mark.parametrize(
    ("degrees", "factor"), [(1, 12.706), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_students_factors_are_those_of_the_tables(degrees, factor):
    assert student(degrees) == pytest.approx(factor, rel=2e-4)


def test_summary_of_three_values():
    summary = summarise([10.0, 11.0, 12.0])
    assert (summary.n, summary.mean, summary.std) == (3, 11.0, 1.0)
    half = 4.3027 / math.sqrt(3)
    assert summary.interval == pytest.approx((11 - half, 11 + half), rel=1e-3)
    assert str(summary) == "11.00 ± 1.00"


def test_one_value_has_no_error_bar_and_shows_nothing():
    summary = summarise([10.0])
    assert (summary.std, summary.interval) == (None, None)
    assert str(summary) == "10.00"
    assert not differ(summary, summarise([90.0, 90.1]))
    assert not differ(summarise([90.0, 90.1]), summary)


def test_intervals_that_overlap_show_no_difference():
    assert not differ(summarise([10, 11, 12]), summarise([13, 14, 15]))
    assert differ(summarise([10, 11, 12]), summarise([17, 18, 19]))
    assert differ(summarise([17, 18, 19]), summarise([10, 11, 12]))
    half = summarise([10, 11, 12]).interval[1] - 11
    for gap, shown in ((2 * half - 1e-6, False), (2 * half + 1e-6, True)):
        assert differ(summarise([10, 11, 12]), summarise([10 + gap, 11 + gap, 12 + gap])) == shown


def test_values_are_no_summary():
    values, summary = [10, 11, 12], summarise([10, 11, 12])
    for pair in ((values, summary), (summary, values)):
        with pytest.raises(StudyError, match=r"not \[10, 11, 12\]; pass summarise\(values\) of either side"):
            differ(*pair)


@pytest.fixture
def records(study, data):
    """One real record an arm and seed, whose test errors the tests replace."""
    return run(study, budget="smoke", data=data, progress=False)


def with_errors(records, errors):
    return [
        dataclasses.replace(
            record,
            run=dataclasses.replace(record.run, test=Evaluation(1.0, error, 40), train=Evaluation(1.0, 50.0, 40)),
        )
        for record, error in zip(records, errors, strict=True)
    ]


def of_budget(records, budget):
    return [dataclasses.replace(r, run=dataclasses.replace(r.run, budget=budget)) for r in records]


def on_images(record, count):
    return dataclasses.replace(record, run=dataclasses.replace(record.run, train_images=count))


def cells(table, row):
    return dict(zip([column.heading for column in table.columns], table.rows[row], strict=True))


def test_the_table_shows_means_and_deviations(study, records):
    table = compare(study, with_errors(records, [10.0, 12.0, 30.0, 33.0]))
    assert [row[0] for row in table.rows] == ["wide", "narrow"]
    row = cells(table, 0)
    assert row["smoke: test error"] == f"11.00 ± {statistics.stdev([10, 12]):.2f} (2)"
    assert row["smoke: training error"] == "50.00 ± 0.00 (2)"
    assert row["parameters"] == f"{records[0].run.parameters:,}"
    assert row["multiply-adds"] == f"{multiply_adds(create('alexnet-cifar', width=0.125), (3, 32, 32)):,}"
    assert row["recipe"] == "a"
    text = " ".join(str(table).split())
    assert "Does it matter? CIFAR-10, 40 training images" in text
    assert "smoke: 4 steps; 4 runs on " in text
    assert "1 thread" in text
    assert "Recipe a: test, 20 epochs, batch 20 (ours)." in text
    assert 'class="cnn-table"' in table._repr_html_()


def test_every_budget_has_its_columns_and_what_is_missing_is_said(study, records):
    table = compare(study, [*records, *of_budget(records[:1], "short")])
    assert [c.heading for c in table.columns if "test error" in c.heading] == [
        "smoke: test error",
        "short: test error",
        "paper: test error",
    ]
    assert cells(table, 0)["short: test error"].endswith("(1)")
    assert cells(table, 1)["short: test error"] == "–"
    assert "– Not measured yet: full (all), narrow (short)." in " ".join(str(table).split())
    only = compare(study, records[:1])
    assert [row[0] for row in only.rows] == ["wide"]
    assert "narrow (all)" in str(only)


def test_what_is_recorded_elsewhere_is_not_called_unmeasured(study, records, monkeypatch):
    shipped = of_budget([one for one in records if one.arm == "narrow"], "short") + records
    monkeypatch.setattr("cnnlib.studies.comparison.load_records", lambda _: shipped)
    text = " ".join(str(compare(study, [one for one in records if one.arm == "wide"])).split())
    assert "– Not measured yet: full (all)." in text
    assert "– Recorded, but not in this table: smoke (narrow), short (narrow)." in text
    others = [dataclasses.replace(one, run=dataclasses.replace(one.run, data="Other")) for one in records]
    assert "short (all), full (all)" in " ".join(str(compare(study, others)).split()), "of other images none are"


def test_some_arms_may_be_compared_in_an_order_of_their_own(study, records):
    both, one = compare(study, records, arms=["narrow", "wide"]), compare(study, records, arms=["narrow"])
    assert [row[0] for row in both.rows] == ["narrow", "wide"]
    assert [row[0] for row in one.rows] == ["narrow"]
    assert "wide" not in str(one), "nor among what is not measured"
    with pytest.raises(StudyError, match="no arm 'deep'; it has wide, narrow"):
        compare(study, records, arms=["deep"])
    with pytest.raises(StudyError, match="there are no records"):
        compare(study, records[:1], arms=["narrow"])


def test_budgets_of_different_images_say_how_many_each(study, records):
    text = " ".join(str(compare(study, [*records, *of_budget([on_images(records[0], 50_000)], "short")])).split())
    assert "Does it matter? CIFAR-10 parameters" in text, "not one number for both"
    assert "smoke: 4 steps on 40 training images; 4 runs on " in text
    assert "short: 4 steps on 50,000 training images; 1 run on " in text


def test_it_is_said_where_number_formats_are_averaged(study, records):
    def compared(*formats):
        runs = [dataclasses.replace(r.run, precision=name) for r, name in zip(records, formats, strict=True)]
        made = [dataclasses.replace(record, run=run) for record, run in zip(records, runs, strict=True)]
        return " ".join(str(compare(study, made)).split())

    assert "Averages" not in compared("fp32", "fp32", "bf16", "bf16")
    assert "each. Averages of bf16 and fp32 runs: wide. " in compared("fp32", "bf16", "bf16", "bf16")
    assert "each. Averages of bf16 and fp32 runs: wide, narrow. " in compared("fp32", "bf16", "fp32", "bf16")


def test_published_errors_stand_beside_the_measured_ones(study, records):
    recipe = dataclasses.replace(study.arms["wide"].recipe, deviations="shorter", source="Ours 2026")
    arms = {
        "wide": Arm("resnet20", recipe),
        "narrow": Arm("alexnet-cifar", recipe, {"width": 0.0625}, Published("test error", 9.5, "1 run", "Them 2015")),
    }
    study = dataclasses.replace(study, arms=arms, subset=None)
    records = [
        replace(r, run=replace(r.run, model=arms[r.arm].model, overrides=dict(arms[r.arm].overrides))) for r in records
    ]
    table = compare(study, records)
    assert [cells(table, row)["paper: test error"] for row in (0, 1)] == ["8.75 (1 run)", "9.5 (1 run)"]
    text = " ".join(str(table).split())
    assert "Paper: He et al. 2015, Table 6. Paper: Them 2015." in text
    assert "(Ours 2026). Deviates: shorter." in text
    assert published(study, Arm("resnet20", recipe, {"shortcut": "B"})) is None, "another net than the paper's"
    assert published(dataclasses.replace(study, subset=100), arms["wide"]) is None, "other data than the paper's"
    assert published(study, Arm("resnet20", RECIPES["resnet-cifar"])).value == 8.75
    assert published(study, Arm("resnet20", RECIPES["resnet-cifar"].replace(lr=0.02))) is None, "another recipe"
    assert published(dataclasses.replace(study, data="cifar100"), arms["wide"]) is None


def test_a_part_of_a_study_of_the_book_is_compared_without_its_records(data):
    whole = find_study("degradation")
    part = replace(whole, arms={"plain20": whole.arms["plain20"]}, probe=None)
    live = run(part, budget="smoke", data=data, progress=False)
    assert [row[0] for row in compare(part, live).rows] == ["plain20"]
    assert with_recorded(part, live) == live


def test_a_record_of_another_recipe_or_network_is_not_compared(study, records):
    for change, message in (
        (lambda run: {"recipe": run.recipe.replace(lr=9)}, r"lr is 9, not 0\.01"),
        (lambda run: {"model": "resnet20"}, "model is 'resnet20', not "),
        (lambda run: {"budget": None}, "says None; cnnlib.studies.run notes it"),
    ):
        with pytest.raises(StudyError, match=message):
            compare(study, [replace(r, run=replace(r.run, **change(r.run))) for r in records])


def test_overlapping_intervals_are_not_ranked(study, records):
    text = str(compare(study, with_errors(records, [10.0, 12.0, 30.0, 33.0])))
    assert "smoke, test error: no difference shown between wide and narrow." in text
    assert "lower than" not in text


def test_a_difference_is_said_with_its_size(study, records):
    text = str(compare(study, with_errors(records, [10.0, 10.1, 30.0, 30.1])))
    assert "smoke, test error: wide is lower than narrow by 20.00 points." in text
    text = str(compare(study, with_errors(records, [30.0, 30.1, 10.0, 10.1])))
    assert "smoke, test error: narrow is lower than wide by 20.00 points." in text
    assert "smoke, training error: no difference shown between wide and narrow." in text


def test_many_arms_need_few_lines():
    noisy, other = summarise([10.0, 20.0, 30.0]), summarise([90.0, 90.1, 90.2])
    assert verdicts("test error", dict.fromkeys("abc", noisy)) == [
        "test error: no difference shown between any two of a, b, c."
    ]
    assert verdicts("test error", {"c": other, "a": noisy, "b": noisy}) == [
        "test error: a is lower than c by 70.10 points.",
        "test error: b is lower than c by 70.10 points.",
        "test error: no difference shown between a and b.",
    ]
    assert verdicts("test error", dict.fromkeys(["a", "b, halved", "c"], noisy)) == [
        "test error: no difference shown between any two of a; b, halved; c."
    ]
    lines = verdicts("test error", {"best": summarise([1.0, 1.1]), **dict.fromkeys("abcd", noisy)})
    assert lines == ["test error: no difference shown between any two of best, a, b, c, d."]
    lines = verdicts("test error", {**dict.fromkeys("abcd", noisy), "c": other, "e": other})
    assert lines[0] == "test error: a is lower than c by 70.10, than e by 70.10 points."
    assert lines[-1] == "test error: no difference shown between any other two (4 pairs)."


def test_single_runs_are_not_compared(study, records):
    one_each = with_errors([records[0], records[2]], [10.0, 90.0])
    assert "no difference shown between wide and narrow (a single run has no error bar)" in str(
        compare(study, one_each)
    )


def test_what_cannot_be_compared(study, records):
    with pytest.raises(StudyError, match="no records of the study 'test'"):
        compare(study, [])
    with pytest.raises(StudyError, match="no records of the study 'test'"):
        compare(study)
    for join in (compare, with_recorded):
        with pytest.raises(
            StudyError, match=f"{join.__name__} needs records, as cnnlib.studies.run returns them, not 1"
        ):
            join(study, [1, 2])
        with pytest.raises(
            StudyError, match=f"{join.__name__} needs a list of records, even of one, not a Record alone"
        ):
            join(study, records[0])
    with pytest.raises(StudyError, match=r"more than one record of wide seed 0 \(smoke\)"):
        compare(study, [records[0], records[0]])
    with pytest.raises(StudyError, match="different studies cannot be compared: other, test"):
        compare(study, [records[0], dataclasses.replace(records[1], study="other")])
    with pytest.raises(StudyError, match="smoke: trainings on 40 and 50,000 images cannot be compared"):
        compare(study, [on_images(records[0], 50_000), *records[1:]])
    few = dataclasses.replace(records[0].run, test=dataclasses.replace(records[0].run.test, n=10))
    with pytest.raises(StudyError, match="smoke: tests on 10 and 40 images cannot be compared"):
        compare(study, [dataclasses.replace(records[0], run=few), *records[1:]])
    with pytest.raises(StudyError, match="has no arm 'gone'"):
        compare(study, [dataclasses.replace(records[0], arm="gone"), *records[1:]])
    invented = dataclasses.replace(records[1], run=dataclasses.replace(records[1].run, data="Shapes-10"))
    with pytest.raises(StudyError, match="different data sets cannot be compared: CIFAR-10, Shapes-10"):
        compare(study, [records[0], invented])


def test_the_packages_records_are_the_default(study, records, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.record.SHIPPED", tmp_path)
    for record in records:
        record.save(tmp_path)
    assert str(compare(study)) == str(compare(study, records))


def test_a_stand_in_has_a_caption_of_its_own(study, stand_in):
    table = compare(study, run(study, budget="smoke", seeds=[0], data=stand_in, progress=False))
    assert "SHAPES-10, IN PLACE OF CIFAR-10: NOT COMPARABLE" in str(table)


def test_live_records_are_joined_by_recorded_seeds(study, data, stand_in, records, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.record.SHIPPED", tmp_path)
    for record in records:
        record.save(tmp_path)
    live = run(study, budget="smoke", seeds=[1], data=data, progress=False)
    joined = with_recorded(study, live)
    assert [(r.arm, r.run.seed) for r in joined] == [("wide", 0), ("wide", 1), ("narrow", 0), ("narrow", 1)]
    assert [r.run.module is not None for r in joined] == [False, True, False, True]
    invented = run(study, budget="smoke", seeds=[1], data=stand_in, progress=False)
    assert with_recorded(study, invented) == invented
    assert with_recorded(study, []) == []
    few = [on_images(record, 30) for record in live]
    assert with_recorded(study, few) == few
    tested_on = [
        replace(record, run=replace(record.run, test=replace(record.run.test, n=record.run.test.n - 1)))
        for record in live
    ]
    assert with_recorded(study, tested_on) == tested_on


@pytest.mark.parametrize("equal_time", [None, "wide"])
def test_trainings_are_averaged_only_if_they_are_equally_long(study, records, equal_time):
    timed = replace(study, equal_time=equal_time)
    longer = [replace(r, run=replace(r.run, steps=3 * r.run.steps)) if r.run.seed else r for r in records]
    assert compare(timed, records)
    with pytest.raises(StudyError, match="smoke: trainings of wide of 4 and 12 steps cannot be averaged"):
        compare(timed, longer)


def test_live_records_are_joined_by_those_of_other_budgets(study, data, stand_in, records, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.record.SHIPPED", tmp_path)
    monkeypatch.setattr("cnnlib.studies.record.check", lambda *_: None)  # two steps are no short training
    for record in (*records, *of_budget(records, "short")):
        record.save(tmp_path)
    live = run(study, budget="smoke", seeds=[1], arms=["wide"], data=data, progress=False)
    joined = with_recorded(study, live, other_budgets=True)
    wide = [("wide", "smoke", 0), ("wide", "smoke", 1), ("wide", "short", 0), ("wide", "short", 1)]
    assert [(r.arm, r.run.budget, r.run.seed) for r in joined if r.arm == "wide"] == wide
    assert [r.run.module is not None for r in joined if r.arm == "wide"] == [False, True, False, False]
    few = [on_images(record, 30) for record in live]
    assert {r.run.budget for r in with_recorded(study, few, other_budgets=True) if r not in few} == {"short"}
    assert {r.run.budget for r in with_recorded(study, live)} == {"smoke"}
    assert [column.heading for column in compare(study, joined).columns if column.heading.startswith("short")]
    invented = run(study, budget="smoke", seeds=[1], data=stand_in, progress=False)
    assert with_recorded(study, invented, other_budgets=True) == invented


def test_an_ensemble_averages_probabilities(study, data, records):
    images = study.images(data, study.scale("smoke"))
    runs = [record.run for record in records if record.arm == "wide"]
    result = ensemble(runs, images)
    mean = sum(predict(r.module, images.test_images, images).softmax(1) for r in runs) / 2
    assert result.error == pytest.approx(100 * (mean.argmax(1) != images.test_labels).double().mean().item())
    assert result.alone == pytest.approx(tuple(r.test_error for r in runs))
    assert (result.seeds, result.images, result.budget) == ((0, 1), 40, "smoke")
    text = str(result)
    assert f"{result.error:.2f}" in text
    assert "the 2 averaged" in text
    assert "seed 1" in result._repr_html_()


@pytest.mark.parametrize(
    ("outputs", "error", "why"),
    [
        (([0.0, 1.0], [0.0, 1.0], [3.0, 0.0]), 100.0, "probabilities 0.27, 0.27, 0.95; the mean logits are 1.00, 0.67"),
        (([0.0, 0.1], [0.0, 0.1], [3.0, 0.0]), 0.0, "probabilities 0.48, 0.48, 0.95, although two of three vote no"),
    ],
)
def test_probabilities_and_not_logits_or_votes(data, records, monkeypatch, outputs, error, why):
    outputs = iter([torch.tensor([output]) for output in outputs])
    monkeypatch.setattr("cnnlib.studies.ensembles.predict", lambda *_: next(outputs))
    one = dataclasses.replace(data, test_images=data.test_images[:1], test_labels=torch.tensor([0]))
    result = ensemble([dataclasses.replace(records[0].run, seed=seed) for seed in range(3)], one)
    assert result.alone == (100.0, 100.0, 0.0)
    assert result.error == error, why


def test_an_ensemble_is_saved_and_read(study, data, records, tmp_path):
    result = ensemble([record.run for record in records[:2]], study.images(data, study.scale("smoke")))
    assert Ensemble.load(result.save(tmp_path / "e.json")) == result
    (tmp_path / "broken.json").write_text("{}")
    (tmp_path / "binary.json").write_bytes(b"\xff")
    for name in ("broken.json", "binary.json", "missing.json"):
        with pytest.raises(RecordError, match=name):
            Ensemble.load(tmp_path / name)


def test_times_of_different_machines_are_not_averaged(study, records):
    slow, fast, faster, *others = (record.run for record in records)
    there = [dataclasses.replace(run, device="a GPU", seconds=seconds) for run, seconds in ((fast, 2), (faster, 4))]
    here = [dataclasses.replace(run, seconds=90) for run in (slow, *others)]
    runs = [here[0], *there, *here[1:]]
    mixed = [dataclasses.replace(record, run=run) for record, run in zip(records, runs, strict=True)]
    text = " ".join(str(compare(study, mixed)).split())
    assert f"smoke: 4 steps; {len(here)} runs on {here[0].hardware}, 1 min 30 s each; 2 runs on a GPU" in text
    assert "eager), 3.0 s each." in text


def test_the_papers_spread_is_shown(study, records):
    arm = dataclasses.replace(
        study.arms["wide"], published=Published("test error", 6.61, "mean of 5 runs", "x", std=0.16)
    )
    study = dataclasses.replace(study, arms=study.arms | {"wide": arm})
    assert compare(study, records).rows[0][-2] == "6.61 ± 0.16 (mean of 5 runs)"


def test_how_often_a_difference_is_shown_that_is_none():
    """What "How to read this book" says of three seeds: one pair in two hundred, one table of ten rows in seven.

    Of pairs with unlike spreads more, and at most one in twenty.
    """
    values = torch.randn(4000, 10, 3, generator=torch.Generator().manual_seed(0)).tolist()
    tables = [[summarise(row) for row in table] for table in values]
    pairs = sum(differ(*table[:2]) for table in tables) / len(tables)
    assert 1 / 400 < pairs < 1 / 130
    assert 1 / 9 < sum(any(starmap(differ, combinations(table, 2))) for table in tables) / len(tables) < 1 / 6
    for ratio, least, most in ((5, 1 / 80, 1 / 45), (1e6, 0.04, 0.055)):
        unlike = sum(
            differ(summarise(wide), summarise([ratio * value for value in narrow])) for wide, narrow, *_ in values
        )
        assert least < unlike / len(values) < most


def test_what_cannot_be_an_ensemble(data, records):
    with pytest.raises(StudyError, match="at least two"):
        ensemble([records[0].run], data)
    with pytest.raises(StudyError, match="no network"):
        ensemble([records[0].run, dataclasses.replace(records[1].run, module=None)], data)
    with pytest.raises(StudyError, match="differ in overrides"):
        ensemble([records[0].run, records[2].run], data)
    first, second = records[0].run, records[1].run
    with pytest.raises(StudyError, match="0 is there 2 times"):
        ensemble([first, first], data)
    with pytest.raises(StudyError, match="different data cannot be averaged: CIFAR-10, CIFAR-100"):
        ensemble([first, second], dataclasses.replace(data, name="CIFAR-100"))
    others = {"data": "CIFAR-100", "budget": "full", "train_images": 7, "recipe": second.recipe.replace(lr=0.02)}
    for what, other in others.items():
        with pytest.raises(StudyError, match=f"differ in {what}"):
            ensemble([first, dataclasses.replace(second, **{what: other})], data)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], ["a"], [None]])
def test_a_mean_needs_finite_values(values):
    with pytest.raises(StudyError, match="at least one finite value"):
        summarise(values)
