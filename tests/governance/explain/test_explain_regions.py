"""Regions of images as players: cells of a grid and superpixels, and what absent ones show."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, images

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Task
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.players.blur import blurred
from affidavit_governance.explain.players.cutting import cut, grid_map
from affidavit_governance.explain.players.options import PLAYER_OPTIONS, PlayerOptions
from affidavit_governance.explain.players.regions import RegionBlock
from affidavit_governance.explain.players.superpixels import connected_pieces, superpixels

DIGITS = Path(__file__).parents[4] / "shared/data/mnist_5k.csv.gz"

SHAPES = [(8, 8), (1, 8, 8), (3, 8, 8), (8, 8, 3), (32,), (2, 40)]


def options(data, **given):
    return PlayerOptions.read("permutation", {**PLAYER_OPTIONS, **given}, data.schema)


def block_of(data, background, kind="regions", **given):
    chosen = options(data, **given)
    return RegionBlock(data, background, "image", cut(data.to_numpy("image"), "image", kind, chosen), chosen.fill)


@pytest.mark.parametrize("shape", SHAPES)
def test_regions_cover_each_element_once_and_find_the_one_that_counts(shape):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, *shape)).astype(np.uint8)
    data = images(pixels)
    block = block_of(data.head(3), data)
    full = block.columns(1, np.ones((1, len(block.players)), dtype=bool), np.zeros(1, dtype=int))["image"]
    assert (full.to_numpy_ndarray()[0] == pixels[1]).all()
    corner = (0,) * len(shape)
    model = Formula(lambda d: d.to_numpy("image")[(slice(None), *corner)] / 255, data)
    found = Permutation().explain(model, data.head(3), data)
    cell = grid_map(shape, 4)[corner]
    np.testing.assert_allclose(np.delete(found.values, cell, axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert abs(found.values[:, cell]).max() > 0.05


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (8, 8, 3)])
@pytest.mark.parametrize("kind", ["regions", "superpixels"])
@pytest.mark.parametrize("fill", ["mean", "blur", 7])
def test_a_linear_models_regions_get_weight_times_difference_from_the_fill(shape, kind, fill):
    generator = np.random.default_rng(1)
    data = images(generator.normal(size=(9, *shape)))
    weights = generator.normal(size=shape)
    model = Formula(lambda d: (d.to_numpy("image") * weights).reshape(len(d), -1).sum(axis=1), data, Task.REGRESSION)
    found = Exact().explain(model, data.head(2), data, players={"image": kind}, grid=3, fill=fill)
    block = block_of(data.head(2), data, kind, grid=3, fill=fill)
    for row in range(2):
        part = (weights * (block_of(data.head(2), data)._values[row] - block.fill[row])).ravel()
        due = np.bincount(block.maps[row].ravel(), weights=part, minlength=len(found.players))
        np.testing.assert_allclose(found.values[row], due, atol=1e-10)
    assert found.details["players"] == {"image": kind} and found.details["fill"] == fill and found.details["grid"] == 3
    assert found.details["shapes"] == {"image": list(shape)}


def test_a_region_that_shows_its_fill_already_is_no_player_and_gets_exactly_zero():
    pixels = np.zeros((5, 8, 8))
    pixels[:, :4, :4] = np.random.default_rng(0).normal(size=(5, 4, 4))
    data = images(pixels)
    block = block_of(data, data, fill=0, grid=2)
    assert block.active(0).tolist() == [0]
    model = Formula(lambda d: d.to_numpy("image").sum(axis=(1, 2)), data, Task.REGRESSION)
    found = Permutation().explain(model, data.head(2), data, grid=2, fill=0)
    np.testing.assert_allclose(found.values[:, 0], pixels[:2].sum(axis=(1, 2)), atol=1e-12)
    assert (found.values[:, 1:] == 0).all()


def test_a_blank_picture_has_no_players_and_its_answer_is_the_base():
    data = images(np.stack([np.zeros((8, 8)), np.ones((8, 8))]))
    model = Formula(lambda d: d.to_numpy("image").mean(axis=(1, 2)), data, Task.REGRESSION)
    found = Permutation().explain(model, data.head(1), data, fill=0)
    assert (found.values == 0).all() and found.base[0] == found.predicted[0] == 0


def test_absent_whole_number_pixels_are_whole_numbers_within_their_type():
    data = images(np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8))
    for fill, due in ((300, 255), (-3, 0), (7.6, 8)):
        block = block_of(data, data, fill=fill)
        shown = block.columns(0, np.zeros((1, 16), dtype=bool), np.zeros(1, dtype=int))["image"].to_numpy_ndarray()
        assert shown.dtype == np.uint8 and (shown == due).all()


def test_a_blur_keeps_constants_and_sums_near_the_middle_and_takes_the_detail_away():
    assert np.allclose(blurred(np.full((2, 9, 16), 3.0), [0, 1]), 3)
    point = np.zeros((1, 65))
    point[0, 32] = 1
    spread = 65 / 8
    due = np.exp(-0.5 * ((np.arange(65) - 32) / spread) ** 2)
    found = blurred(point, [0])[0]
    np.testing.assert_allclose(found[25:40], (due / due.sum())[25:40], rtol=1e-2)
    checks = np.indices((32, 32)).sum(axis=0)[None] % 2.0
    assert blurred(checks, [0, 1])[0, 8:-8, 8:-8].std() < 0.01


def test_superpixels_are_connected_cover_the_picture_and_follow_an_edge_that_a_grid_crosses():
    y, x = np.indices((48, 40))
    disc = ((y - 22) ** 2 + (x - 17) ** 2 < 150)[..., None].astype(float)
    noisy = disc + np.random.default_rng(0).normal(scale=0.1, size=disc.shape)
    found = superpixels(noisy, 16)
    count = found.max() + 1
    assert 8 <= count <= 24 and set(np.unique(found)) == set(range(count))
    assert len(np.unique(connected_pieces(found))) == count

    def wrong(labels):  # pixels on the minority side of their region
        inside = np.bincount(labels.ravel(), weights=disc.ravel())
        return np.minimum(inside, np.bincount(labels.ravel()) - inside).sum()

    assert wrong(found) < 0.2 * wrong(grid_map((48, 40), 4))


def test_superpixels_are_as_good_as_scikit_images():
    segmentation = pytest.importorskip("skimage.segmentation", reason="scikit-image comes with lime")
    y, x = np.indices((64, 64))
    picture = np.stack([np.sin(x / 9) > np.cos(y / 7), (x + y) % 50 < 25, x > 30], axis=-1).astype(float)
    truth = (picture * [1, 2, 4]).sum(axis=-1).astype(int)
    noisy = np.clip(picture + np.random.default_rng(0).normal(scale=0.15, size=picture.shape), 0, 1)

    def wrong(labels):
        table = np.zeros((labels.max() + 1, 8))
        np.add.at(table, (labels.ravel(), truth.ravel()), 1)
        return (table.sum(axis=1) - table.max(axis=1)).sum()

    peers = [segmentation.slic(noisy, n_segments=36, compactness=c, start_label=0, channel_axis=-1) for c in (1, 10, 30)]
    assert wrong(superpixels(noisy, 36)) <= 1.1 * min(wrong(peer) for peer in peers)


def test_a_picture_of_one_colour_is_cut_into_a_grid_and_tiny_ones_into_pixels():
    sizes = np.bincount(superpixels(np.ones((32, 32, 3)), 16).ravel())
    assert len(sizes) == 16 and sizes.min() > 30
    assert (superpixels(np.arange(4.0).reshape(2, 2, 1), 50).ravel() == [0, 1, 2, 3]).all()


def test_connected_pieces_match_a_search():
    labels = np.random.default_rng(3).integers(0, 2, (30, 31))
    found = connected_pieces(labels)
    seen = -np.ones(labels.shape, dtype=int)
    for start in np.ndindex(labels.shape):
        if seen[start] < 0:
            stack, first = [start], start[0] * 31 + start[1]
            seen[start] = first
            while stack:
                i, j = stack.pop()
                for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                    if 0 <= a < 30 and 0 <= b < 31 and seen[a, b] < 0 and labels[a, b] == labels[start]:
                        seen[a, b] = first
                        stack.append((a, b))
    assert (found == seen).all()


def test_a_row_alone_has_the_numbers_it_has_in_a_batch_of_other_pictures():
    generator = np.random.default_rng(5)
    data = images(generator.normal(size=(10, 12, 12)))
    model = Formula(lambda d: np.tanh(d.to_numpy("image")[:, :5].sum(axis=(1, 2))), data, Task.REGRESSION)
    for kind in ("regions", "superpixels"):
        given = {"players": {"image": kind}, "grid": 3, "budget": 200}
        batch = Permutation().explain(model, data.head(4), data, **given)
        alone = Permutation().explain(model, data.take([2]), data, **given)
        own = alone.values[0]
        assert (batch.values[2][: len(own)] == own).all() and (batch.values[2][len(own) :] == 0).all()


def test_what_does_not_fit_is_refused_by_name():
    data = images(np.random.default_rng(0).normal(size=(6, 8, 8)))
    model = Formula(lambda d: d.to_numpy("image").sum(axis=(1, 2)), data, Task.REGRESSION)
    cases = [
        ({"players": {"imag": "regions"}}, "'imag', which is no input.*image"),
        ({"players": {"image": "region"}}, "cannot be 'region'.*regions"),
        ({"players": {"image": ["regions"]}}, "cannot be"),
        ({"players": {"image": "words"}}, "no words"),
        ({"players": ["image"]}, "mapping"),
        ({"grid": 0}, "'grid' of explainer 'permutation'"),
        ({"grid": True}, "'grid'"),
        ({"fill": "median"}, "'fill'"),
        ({"fill": float("nan")}, "'fill'"),
        ({"cuts": "loud"}, "'cuts'"),
        ({"rate": 0}, "'rate'"),
    ]
    for given, message in cases:
        with pytest.raises(UsageError, match=message):
            Permutation().explain(model, data.head(1), data, **given)
    series = images(np.random.default_rng(0).normal(size=(6, 40)))
    with pytest.raises(UsageError, match="no image"):
        Permutation().explain(
            Formula(lambda d: d.to_numpy("image").sum(axis=1), series, Task.REGRESSION), series, series, players={"image": "superpixels"}
        )
    gap = np.random.default_rng(0).normal(size=(6, 8, 8))
    gap[:, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="no mean to show"):
        Permutation().explain(model, data.head(1), images(gap))


def test_the_hierarchy_of_regions_halves_the_picture():
    data = images(np.random.default_rng(0).normal(size=(2, 3, 8, 8)))
    assert block_of(data, data, grid=2).hierarchy(0) in ([[0, 1], [2, 3]], [[0, 2], [1, 3]])
    wide = images(np.random.default_rng(0).normal(size=(2, 6, 40)))
    left, right = block_of(wide, wide, grid=2).hierarchy(0)
    assert left == [0, 2] and right == [1, 3], "the longer side is cut first"
    assert block_of(images(np.zeros((2, 8, 8))), images(np.zeros((2, 8, 8))), fill=0).hierarchy(0) == []


def test_a_large_picture_is_asked_about_in_calls_that_fit_memory():
    data = images(np.random.default_rng(0).normal(size=(3, 160, 160, 3)).astype(np.float32))
    largest = []

    def score(d):
        largest.append(len(d))
        return d.to_numpy("image")[:, 0, 0, 0]

    Exact().explain(Formula(score, data, Task.REGRESSION), data.head(1), data, grid=3)
    assert sum(largest) >= 512 and max(largest) * 160 * 160 * 3 <= 2**25


def test_regions_of_real_digits_add_up_and_point_at_ink():
    if not DIGITS.exists():
        pytest.skip("the digits are not on this machine")
    from sklearn.linear_model import LogisticRegression

    with gzip.open(DIGITS, "rt") as file:
        table = np.loadtxt(file, delimiter=",", max_rows=5000, dtype=np.float64)
    table = table[np.isin(table[:, -1], (3, 8))]
    pixels, label = table[:, :784].reshape(-1, 28, 28).astype(np.uint8), table[:, -1] == 8
    fitted = LogisticRegression(C=1e-5, max_iter=200).fit(pixels.reshape(len(pixels), -1), label)
    data = images(pixels)
    model = Formula(lambda d: fitted.predict_proba(d.to_numpy("image").reshape(len(d), -1))[:, 1], data)
    for kind in ("regions", "superpixels"):
        found = Permutation().explain(model, data.head(6), data.take(np.arange(50, 90)), players={"image": kind}, fill=0)
        assert found.residual.max() < 1e-9
        block = block_of(data.head(6), data, kind, fill=0)
        for row in range(6):
            inked = np.unique(block.maps[row][pixels[row] > 0])
            assert (np.delete(found.values[row], inked) == 0).all() and (len(inked) < 16 or kind == "superpixels")
            # Without the two regions that speak most for the answer given, it is given up further than without two others on average.
            toward = found.values[row] * np.sign(found.predicted[row] - found.base[row])
            kept = np.ones((1 + 20, len(found.players)), dtype=bool)
            kept[0, np.argsort(-toward)[:2]] = False
            generator = np.random.default_rng(row)
            for other in kept[1:]:
                other[generator.choice(inked, 2, replace=False)] = False
            column = block.columns(row, kept, np.zeros(21, dtype=int))["image"].to_numpy_ndarray()
            answers = model.function(images(column)) * np.sign(found.predicted[row] - found.base[row])
            assert answers[0] < answers[1:].mean()
