"""Neighbours and distances on networks whose features are known."""

import pytest
import torch
from torch import nn

from cnnlib.measure import (
    BadArgument,
    UnknownLayer,
    features,
    nearest,
    perceptual_distance,
    pixel_distance,
    same_class,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).train()


def pictures(count, seed=0):
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_features_are_what_the_layer_puts_out_even_where_the_next_writes_into_it(net):
    images = pictures(3)
    with torch.no_grad():
        expected = net[0](images)
    assert (expected < 0).any()  # which the ReLU would set to 0
    assert torch.equal(features(net, images, "0"), expected.flatten(1))
    assert features(net, images, "3").shape == (3, 5)
    assert net.training
    assert not net[0]._forward_hooks


def test_many_images_go_through_in_parts(net, monkeypatch):
    whole = features(net, pictures(7), "1")
    monkeypatch.setattr("cnnlib.measure.similarity.BATCH", 3)
    torch.testing.assert_close(features(net, pictures(7), "1"), whole)


def test_features_use_evaluation_mode():
    net = nn.Sequential(nn.Dropout(0.5)).train()
    assert torch.equal(features(net, pictures(2), "0"), pictures(2).flatten(1))


def test_one_value_an_image_is_a_vector_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 1), nn.Flatten(0))
    assert features(net, pictures(3), "2").shape == (3, 1)


@pytest.mark.parametrize("start", [-2, -1])  # one tensor of all images' values, and one value
def test_a_layer_must_put_out_a_row_for_each_image(start):
    class Mixes(nn.Module):
        def forward(self, x):
            return x.flatten() if start == -2 else x.sum()

    with pytest.raises(BadArgument, match="no tensor with a row for each image"):
        features(nn.Sequential(Mixes()), pictures(3), "0")


def test_unknown_and_uncalled_layers_are_named(net):
    with pytest.raises(UnknownLayer, match="'5'"):
        features(net, pictures(1), "5")
    net.spare = nn.Linear(1, 1)
    net.forward = lambda x: net[0](x)
    with pytest.raises(BadArgument, match="'spare' is not called"):
        features(net, pictures(1), "spare")


def test_nearest_excludes_the_image_itself_and_sorts():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert nearest(points, torch.tensor([0, 2]), 3).tolist() == [[1, 2, 3], [1, 0, 3]]


def test_nearest_by_cosine_compares_directions():
    points = torch.tensor([[1.0, 0.0], [9.0, 1.0], [1.0, 1.0]])
    assert nearest(points, torch.tensor([0]), 1).tolist() == [[2]]
    assert nearest(points, torch.tensor([0]), 1, "cosine").tolist() == [[1]]


def test_a_vector_of_zeros_has_a_cosine_of_zero():
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 3.0], [-1.0, 3.0]])  # cosines 0, 0.3 and -0.3 with the first
    assert nearest(points, torch.tensor([0]), 3, "cosine").tolist() == [[2, 1, 3]]


def test_a_large_mean_does_not_hide_small_distances():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]]) + 1e5
    assert nearest(points, torch.tensor([0, 2]), 3).tolist() == [[1, 2, 3], [1, 0, 3]]


def test_nearest_by_parts_is_nearest(monkeypatch):
    points = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    whole = nearest(points, torch.arange(20), 4)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(whole, distances.topk(4, largest=False).indices)
    monkeypatch.setattr("cnnlib.measure.similarity.BATCH", 6)
    assert torch.equal(nearest(points, torch.arange(20), 4), whole)


def test_nearest_refuses_what_makes_no_sense():
    with pytest.raises(BadArgument, match="unknown metric 'dot'"):
        nearest(torch.eye(3), torch.tensor([0]), 1, "dot")
    with pytest.raises(BadArgument, match="3 neighbours of 3"):
        nearest(torch.eye(3), torch.tensor([0]), 3)
    with pytest.raises(BadArgument, match=r"count must be a whole number, not 1.5"):
        nearest(torch.eye(3), torch.tensor([0]), 1.5)
    with pytest.raises(BadArgument, match=r"vectors must be a tensor .*, not a ndarray"):
        nearest(torch.eye(3).numpy(), 0, 1)
    for wrong in (3, -1, 1.5, [], "all", None, torch.tensor([True, False, True])):
        with pytest.raises(BadArgument, match="queries must be whole numbers from 0 to 2, not"):
            nearest(torch.eye(3), wrong, 1)


def test_share_of_neighbours_of_the_same_class():
    labels = torch.tensor([0, 0, 1, 1])
    assert same_class(torch.tensor([[1, 2], [3, 0]]), torch.tensor([0, 2]), labels) == 0.5


def test_pixel_distance_is_the_root_mean_square():
    a, b = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    b[1, 0, 0, 0] = 2
    assert pixel_distance(a, b).tolist() == [0, 1]
    with pytest.raises(BadArgument, match=r"one shape \(N, ...\), not \(2, 1, 2, 2\) and \(1, 1, 2, 2\)"):
        pixel_distance(a, b[:1])  # which would be compared with each
    with pytest.raises(BadArgument, match=r"compares float tensors, not torch.uint8"):
        pixel_distance(a.byte(), b.byte())


def test_perceptual_distance_is_the_formula(net):
    a, b = pictures(4), pictures(4, seed=1)
    expected = torch.zeros(4)
    with torch.no_grad():
        for ours, theirs in ((net[0](a), net[0](b)), (net[:2](a), net[:2](b))):
            unit = [y / y.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12) for y in (ours, theirs)]
            expected += (unit[0] - unit[1]).square().sum(1).flatten(1).mean(1)
    distance = perceptual_distance(net, a, b, ["0", "1"])
    torch.testing.assert_close(distance, expected)
    assert (distance > 0).all()
    assert perceptual_distance(net, a, a, ["0", "1"]).tolist() == [0] * 4


def test_perceptual_distance_does_not_see_the_length_of_a_feature():
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU())
    torch.testing.assert_close(
        perceptual_distance(net, pictures(2), pictures(2) / 2, ["1"]), torch.zeros(2), atol=1e-6, rtol=0
    )


def test_a_layer_that_is_named_twice_counts_twice(net):
    once, twice = (perceptual_distance(net, pictures(2), pictures(2, seed=1), ["0"] * n) for n in (1, 2))
    torch.testing.assert_close(twice, 2 * once)


def test_perceptual_distance_refuses_what_makes_no_sense(net):
    for layers, others, words in (
        ([], pictures(1), "at least one layer"),
        (["3"], pictures(1), "'3' puts out no maps"),
        (["0"], pictures(2), "one shape"),
    ):
        with pytest.raises(BadArgument, match=words):
            perceptual_distance(net, pictures(1), others, layers)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_vectors_that_are_not_finite_are_named(metric, value):
    points = torch.randn(10, 4)
    points[7, 1] = value
    with pytest.raises(BadArgument, match=r"^vectors must be finite; vector 7 is not$"):
        nearest(points, torch.tensor([0]), 3, metric)


def test_queries_may_be_plain_numbers():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert nearest(points, 2, 2).tolist() == [[1, 0]]
    assert nearest(points, [0, 2], 2).tolist() == [[1, 2], [1, 0]]


def test_one_value_an_image_is_a_vector_and_small_integers_are_numbers():
    values = torch.tensor([0.0, 1.0, 5.0, 6.0])
    assert nearest(values, torch.tensor([1, 2], dtype=torch.uint8), 1).tolist() == [[0], [3]]
    assert same_class(nearest(values, 2, 1), 2, torch.tensor([0, 0, 1, 1])) == 1.0
    with pytest.raises(BadArgument, match=r"vectors must be a tensor \(N, \.\.\.\) of real numbers"):
        nearest(torch.tensor(1.0), 0, 1)


@pytest.mark.parametrize(
    ("neighbours", "queries", "labels", "message"),
    [
        ([[1], [0]], [0], [0, 1], r"neighbours \(2, 1\) do not go with 1 queries"),
        ([[1], [0]], [0, 1], [[0], [1]], r"labels must be an int64 tensor of shape N, not torch\.int64 \(2, 1\)"),
        ([1, 0], [0, 1], [0, 1], "neighbours must be an int64 tensor of shape Q, count, not"),
        ([[1], [2]], [0, 1], [0, 1], "numbers of images that have labels, 0 to 1"),
        ([[1], [0]], [0, 2], [0, 1], "queries must be whole numbers from 0 to 1"),
    ],
)
def test_neighbours_queries_and_labels_go_together(neighbours, queries, labels, message):
    with pytest.raises(BadArgument, match=message):
        same_class(torch.tensor(neighbours), torch.tensor(queries), torch.tensor(labels))


def test_layers_are_no_generator(net):
    with pytest.raises(BadArgument, match="layers is a list"):
        perceptual_distance(net, pictures(2), pictures(2, seed=1), (name for name in ["0", "3"]))
