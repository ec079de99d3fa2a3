"""What the closing chapter says with the records, and with torchvision's word about its weights."""

from types import SimpleNamespace

import pytest
import torch
import torchvision

from cnnlib import measure, studies
from cnnlib.explore import describe, released_errors
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies import closing
from cnnlib.studies.closing import QUESTIONS, Question, answers, answers_table
from cnnlib.studies.released import PAPERS, Released, frontier, paper, released, released_table


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.asks for question in QUESTIONS])
def test_every_question_is_about_two_arms_of_a_study(question):
    study = studies.find_study(question.study)
    first, second = (study.arm(arm) for arm in question.arms)
    assert first != second
    assert (first.recipe.lr, first.recipe.batch_size) == (second.recipe.lr, second.recipe.batch_size)


def recorded(arm, budget, *errors):
    runs = (SimpleNamespace(budget=budget, test_error=error, steps={"short": 1200}.get(budget, 2)) for error in errors)
    return [SimpleNamespace(arm=arm, run=run) for run in runs]


def test_there_is_an_answer_for_each_budget_that_has_both_arms(monkeypatch):
    question = Question("augmentation", "dropout-and-augmentation", ("augmentation", "neither"))
    records = recorded("augmentation", "short", 30, 31, 32) + recorded("neither", "short", 40, 41, 42)
    records += recorded("augmentation", "medium", 20, 21)
    monkeypatch.setattr(closing, "load_records", lambda study: records)
    (found,) = answers(question)
    assert found.budget == "short", "medium has no record of the other arm"
    assert found.errors == (studies.summarise([30, 31, 32]), studies.summarise([40, 41, 42]))
    assert found.steps == (1200,)
    assert found.shown
    records += recorded("neither", "medium", 22)
    assert [one.budget for one in answers(question)] == ["short", "medium"]
    assert not answers(question)[1].shown, "a single run has no interval"
    records.clear()
    assert answers(question) == []


@pytest.mark.parametrize(("first", "second", "word"), [(30, 40, "lower"), (40, 30, "higher"), (30, 31, "not shown")])
def test_the_difference_is_that_of_the_first_arm(monkeypatch, first, second, word):
    question = Question("augmentation", "dropout-and-augmentation", ("augmentation", "neither"))
    records = recorded("augmentation", "short", first, first + 1, first + 2)
    records += recorded("neither", "short", second, second + 1, second + 2)
    monkeypatch.setattr(closing, "load_records", lambda study: records)
    (row,) = answers_table([question]).rows
    assert row[-2] == word
    assert row[:3] == ("augmentation", "short", "1,200")


def test_training_errors_are_compared_where_that_is_asked():
    question = Question("depth", "degradation", ("plain56", "plain20"), "train_error")
    records = [one for one in studies.load_records(studies.find_study("degradation"), "short") if one.arm == "plain56"]
    assert answers(question)[0].errors[0] == studies.summarise([one.run.train_error for one in records])


def test_the_records_of_a_question_are_read_once(monkeypatch):
    asked = []
    monkeypatch.setattr(closing, "load_records", lambda study: asked.append(study.name) or [])
    answers_table()
    assert asked == [question.study for question in QUESTIONS]


def test_the_table_names_what_is_shown_and_what_has_no_records(monkeypatch):
    kept = closing.load_records

    def some(study):
        return [] if study.name == "cardinality" else kept(study)

    monkeypatch.setattr(closing, "load_records", some)
    augmentation, depth, paths = (
        next(question for question in QUESTIONS if question.asks.startswith(start))
        for start in ("augmentation", "56 plain", "8 paths")
    )
    table = answers_table([augmentation, depth, paths])
    assert list(dict.fromkeys(row[0] for row in table.rows)) == [augmentation.asks, depth.asks]
    assert {row[-2] for row in table.rows} <= {"lower", "higher", "not shown"}
    assert table.notes[-1] == f"Not measured yet: {paths.asks}."


def test_released_weights_are_those_of_torchvision_trained_on_imagenet_alone():
    everything = released()
    assert len(everything) > 90
    assert not any("SWAG" in one.weights for one in everything)
    assert [one.weights for one in released("resnet50")] == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    first, second = released("resnet50")
    assert (first.top1_error, first.size, first.parameters) == (23.87, 224, 25_557_032)
    assert (first.resize, second.resize, second.size) == (256, 232, 224), "the protocols differ"
    assert all(10 < one.top1_error < 50 for one in everything)
    with pytest.raises(ValueError, match="no_such_net"):
        released("no_such_net")


@pytest.mark.parametrize("name", ["alexnet", "resnet50", "mobilenet_v2", "densenet121", "convnext_tiny"])
def test_counts_of_torchvision_are_ours(name):
    one = released(name)[0]
    with torch.device("meta"):
        net = torchvision.models.get_model(name)
    assert measure.count_parameters(net) == one.parameters
    assert measure.multiply_adds(net, (3, one.size, one.size)) == pytest.approx(one.multiply_adds, rel=0.01)


def test_every_architecture_has_a_paper():
    for one in released():
        year, source = paper(one.name)
        assert 2012 < year < 2023
        assert source
    assert paper("efficientnet_v2_s") == PAPERS["efficientnet_v2"]
    assert paper("vgg16_bn") == PAPERS["vgg"]
    with pytest.raises(KeyError):
        paper("no_such_net")


def made_up(name, cost, error):
    return Released(name, "IMAGENET1K_V1", 1, cost, 224, 256, error)


def test_the_frontier_is_what_no_other_beats():
    a, b, c, d = made_up("a", 1, 30), made_up("b", 2, 31), made_up("c", 3, 20), made_up("d", 3, 25)
    assert frontier([d, c, b, a]) == [a, c]
    assert frontier([]) == []


def test_the_table_of_weights_has_a_row_for_each():
    rows = released_table(released("resnet50"), "Two").rows
    assert rows[1] == ("resnet50, V2", "2015", "25.6", "4.09", "224", "19.14", "He et al. 2016")


@pytest.mark.parametrize("options", [{}, {"two": "b"}, {"two": "a", "named": ["a", "b"]}])
def test_the_figure_needs_the_weights_it_names(options):
    with pytest.raises(NothingToDraw, match="no weights of"):
        released_errors([made_up("a", 1, 30)], **options)


def test_the_figure_has_a_mark_for_each_and_says_what_is_not_beaten():
    weights = released("alexnet", "resnet50", "efficientnet_b0", "vit_b_16")
    figure = released_errors(weights, named=["alexnet", "vit_b_16"])
    (axes,) = figure.axes
    marks = [tuple(point) for marks in axes.collections for point in marks.get_offsets()]
    assert sorted(marks) == sorted((one.multiply_adds, one.top1_error) for one in weights)
    texts = [text.get_text() for text in axes.texts]
    assert {"alexnet", "vit_b_16"} <= set(texts)
    said = describe(figure)
    assert "efficientnet_b0 22.3 % with 0.39 G" in said
    assert "alexnet" not in said
    assert "resnet50: 23.9 % as first trained, 19.1 % with the later recipe" in said


def test_names_lie_on_no_mark_and_within_the_figure():
    """To the right of one mark, where a name would stand at first, are others, and of one the end of the figure."""
    crowded, at_the_end = made_up("crowded", 20, 39), made_up("a long name at the end", 300, 30)
    others = [made_up(f"other {index}", 20 + 4 * index, 39.8) for index in range(1, 11)]
    weights = [made_up("best", 1, 11), made_up("best", 1, 10), crowded, at_the_end, *others]
    figure = released_errors(weights, named=[crowded.name, at_the_end.name], two="best")
    (axes,) = figure.axes
    marks = axes.transData.transform([(one.multiply_adds, one.top1_error) for one in weights])
    named = [text for text in axes.texts if text.get_text()]
    assert len(named) == 2
    for text in named:
        box = text.get_tightbbox()
        assert not any(box.contains(*mark) for mark in marks), text.get_text()
        assert axes.bbox.xmin <= box.xmin < box.xmax <= axes.bbox.xmax


def test_what_costs_more_for_the_same_error_is_not_on_the_frontier():
    cheap, dear = made_up("cheap", 1, 30), made_up("dear", 2, 30)
    assert frontier([dear, cheap]) == [cheap]
