"""Plots: files that open, labels with values, intervals where there are some, withheld values never as zero, no global state touched."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from tests.governance.explain.explain_models import Formula, images, make_table, sms, spam
from tests.governance.explain.picture_cases import estimated, exact, reason_codes, top_k, words_in

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Task
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.pictures import regions
from affidavit_governance.explain.pictures.bar import mean_absolute
from affidavit_governance.explain.pictures.beeswarm import swarm
from affidavit_governance.explain.pictures.canvas import DOWN, UP, families
from affidavit_governance.explain.pictures.drawing import ORDERED, Asked, Scale
from affidavit_governance.explain.pictures.plots import KINDS, plot_explanation
from affidavit_governance.explain.players.cutting import cut
from affidavit_governance.explain.players.options import PLAYER_OPTIONS, PlayerOptions

TABULAR = ("waterfall", "bar", "beeswarm", "force", "dependence")


@pytest.mark.parametrize("kind", TABULAR)
def test_files_of_each_ending_are_written_and_the_same_each_time(tmp_path, kind):
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!DOCTYPE html>")):
        names = ("a", "b") if ending != "html" else ("a",)  # a page is its drawing with a frame
        for name in names:
            plot_explanation(estimated(), tmp_path / f"{name}.{ending}", kind=kind, row=1)
        written = {(tmp_path / f"{name}.{ending}").read_bytes() for name in names}
        assert len(written) == 1 and min(written).startswith(magic) and len(min(written)) > 8000
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page and 'href="http' not in page and "src=" not in page and "<b>4" not in page


@pytest.mark.parametrize("kind", ["waterfall", "force"])
def test_a_row_is_drawn_with_its_values_and_intervals_only_where_there_are_some(tmp_path, kind):
    shown = estimated()
    path = tmp_path / "x.svg"
    row = int(np.argmax(abs(shown.values[:, 4])))
    plot_explanation(shown, path, row=row, kind=kind)
    largest = int(np.argmax(abs(shown.values[row])))
    said = f"{shown.values[row, largest]:+.3g} ± {shown.errors[row, largest]:.2g}".replace("-", "\u2212")
    drawn = words_in(path)
    assert any(said in word for word in drawn) and any(f"field_{largest}" in word for word in drawn)
    assert any(word.startswith("permutation: estimated, with 95 % intervals; adds up to within") for word in drawn)
    assert any(word == f"Row {row}: probability of good" for word in drawn)
    assert any("cost $5 <b>4" in word for word in drawn), "markup is text"
    plot_explanation(exact(), path, row=row, kind=kind)
    assert not any("±" in word for word in words_in(path)) and any(word.startswith("linear: exact") for word in words_in(path))


def test_other_rows_are_other_pictures(tmp_path):
    pictures = set()
    for row in range(3):
        plot_explanation(estimated(), tmp_path / "x.png", row=row)
        pictures.add((tmp_path / "x.png").read_bytes())
    assert len(pictures) == 3


def test_what_is_withheld_is_drawn_as_withheld(tmp_path):
    shown = top_k()
    path = tmp_path / "x.svg"
    for kind in ("waterfall", "force"):
        plot_explanation(shown, path, kind=kind)
        drawn = words_in(path)
        assert any("17 withheld" in word for word in drawn) and any("release: top-k 3" in word for word in drawn)
        assert "hatch" in path.read_text() or "pattern" in path.read_text()
        left = float(shown.predicted[0] - shown.base[0] - np.nansum(shown.values[0]))
        assert any(f"{left:+.3g}".replace("-", "\u2212") in word for word in drawn), "their sum follows from the rest"
    for kind in ("bar", "beeswarm"):
        plot_explanation(shown, path, kind=kind)
        assert any("510 of 600 attributions withheld and not drawn" in word for word in words_in(path))
    plot_explanation(shown, path, kind="bar")
    assert any("of 30 rows known" in word for word in words_in(path))
    for kind in ("waterfall", "force"):
        plot_explanation(reason_codes(), path, kind=kind)
        drawn = words_in(path)
        assert any("field_1" in word and "raises the answer" in word for word in drawn)
        assert any(word.startswith("2.") and "direction not certain" in word for word in drawn)
    for kind in ("bar", "beeswarm", "dependence"):
        with pytest.raises(UsageError):
            plot_explanation(reason_codes(), path, kind=kind)


def test_surrogates_ties_and_stability_are_said(tmp_path):
    shown = estimated()
    stability = {"k": 5, "probability": [0.42] * 30, "ties": [[["field_1", "field_2"]]] * 30}
    path = tmp_path / "x.svg"
    plot_explanation(replace(shown, method="lime", details={**shown.details, "additive": False, "stability": stability}), path)
    drawn = " | ".join(words_in(path))
    assert "need not add up" in drawn and "tied: field_1, field_2" in drawn and "probability 0.42" in drawn and "adds up to within" not in drawn


def test_bars_have_students_interval_of_the_mean_over_the_rows_that_are_known():
    from scipy.stats import t

    values = np.random.default_rng(0).normal(size=(12, 3))
    values[4:, 1] = np.nan
    values[1:, 2] = np.nan
    mean, half, counts = mean_absolute(values)
    known = abs(values[:4, 1])
    assert mean[1] == pytest.approx(known.mean()) and counts.tolist() == [12, 4, 1] and np.isnan(half[2])
    assert half[1] == pytest.approx(t.ppf(0.975, 3) * known.std(ddof=1) / 2)


def test_swarming_points_of_like_value_stand_apart():
    values = np.concatenate([np.zeros(40), np.random.default_rng(0).normal(size=100)])
    offset = swarm(values, 0.05)
    assert abs(offset).max() <= 0.38 + 1e-12
    places = set(zip(np.floor(values / 0.05), offset, strict=True))
    assert len(places) == len(values)
    assert (swarm(values, 0.05) == offset).all() and len(swarm(np.empty(0), 0.05)) == 0


def test_points_are_coloured_by_value_gaps_are_grey_and_categories_named(tmp_path):
    scale = Scale.of([3.0, None, float("nan"), 10.0, 4.0])
    grey = scale.colours()[1]
    assert scale.colours()[2] == grey and scale.colours()[0] == ORDERED(0.0) and scale.colours()[3] == ORDERED(1.0)
    assert Scale.of(["b", "a", None, "a"]).categories == ("a", "b") and Scale.of([True, False]).categories == ("False", "True")
    path = tmp_path / "x.svg"
    plot_explanation(estimated(), path, kind="beeswarm")
    drawn = words_in(path)
    assert {"red", "green", "blue", "low", "high"} <= set(drawn) and any("grey points" in word for word in drawn)
    assert any("lines: 95 % intervals" in word for word in drawn)
    plot_explanation(estimated(rows=80), path, kind="beeswarm")
    assert any("median half-width" in word for word in words_in(path))
    plot_explanation(replace(estimated(), inputs=[]), path, kind="beeswarm")
    assert any("holds no values" in word for word in words_in(path))


def test_orange_and_blue_are_told_apart_in_grey_print():
    lightness = [float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) for colour in (UP, DOWN)]
    assert lightness[0] - lightness[1] > 0.3
    ramp = [float(np.dot(ORDERED(share)[:3], (0.299, 0.587, 0.114))) for share in np.linspace(0, 1, 20)]
    assert (np.diff(ramp) > 0).all()


def test_dependence_is_coloured_by_the_strongest_interaction_and_says_how_it_was_found(tmp_path):
    data = make_table(120)

    def crossing(d):
        return 0.5 + 0.2 * np.tanh(d.to_numpy("x0") * (d.to_numpy("x1") > 0))

    found = Exact().explain(Formula(crossing, data), data.head(60), data.take(np.arange(100, 120)))
    path = tmp_path / "x.svg"
    plot_explanation(found, path, kind="dependence", player="x0")
    drawn = words_in(path)
    assert any(word.startswith("colour: x1") and "interactions were not measured" in word for word in drawn)
    interactions = np.zeros((60, 4, 4))
    interactions[:, 0, 3] = interactions[:, 3, 0] = 1
    plot_explanation(replace(found, interactions=interactions), path, kind="dependence", player="x0")
    assert any(word.startswith("colour: flag, the strongest interaction") for word in words_in(path))
    plot_explanation(found, path, kind="dependence", player="colour", colour="flag")
    drawn = words_in(path)
    assert {"red", "green", "blue", "gap"} <= set(drawn) and any("as asked for" in word for word in drawn)
    with pytest.raises(UsageError, match=r"no player 'x00'.*x0"):
        plot_explanation(found, path, kind="dependence", player="x00")
    with pytest.raises(UsageError, match="no values to draw"):
        plot_explanation(replace(found, inputs=[]), path, kind="dependence")


def test_words_are_drawn_in_their_order_with_their_numbers(tmp_path):
    data = sms(["call now for a <free> free prize", "", " ".join(["word"] * 60)])
    found = Permutation().explain(Formula(spam, data), data, data, budget=300)
    path = tmp_path / "x.svg"
    plot_explanation(found, path, kind="text")
    drawn = words_in(path)
    order = [word for word in drawn if word in ("call", "now", "for", "a", "<free>", "free", "prize")]
    assert order == ["call", "now", "for", "a", "<free>", "free", "prize"]
    assert any(word.startswith("+0.3") for word in drawn)
    with pytest.raises(UsageError, match="no words"):
        plot_explanation(found, path, kind="text", row=1)
    with pytest.raises(UsageError, match="holds no text"):
        plot_explanation(Explanation.from_json(found.to_json()), path, kind="text")


def test_chinese_is_text_in_svg_and_html_and_a_png_without_a_font_says_so(tmp_path):
    data = sms(["外卖 很 好吃 free now", "now"])
    found = Permutation().explain(Formula(spam, data), data, data, budget=300)
    for kind in ("text", "waterfall"):
        for ending in ("svg", "html"):
            plot_explanation(found, tmp_path / f"x.{ending}", kind=kind)
            assert "free" in (tmp_path / f"x.{ending}").read_text()
            assert "外" in (tmp_path / f"x.{ending}").read_text() or kind != "text"
        plot_explanation(found, tmp_path / "x.png", kind=kind)
    from affidavit_governance.explain.pictures.canvas import Page

    page = Page(2, 2, ".png")
    drawn = page.text("外卖 $5")
    if len(families()) == 1:
        assert drawn == "\u25a1\u25a1 \\$5" and page.missing == {"外", "卖"}
    else:
        assert drawn == "外卖 \\$5" and not page.missing
    page.missing = {"外"}
    page.finish()
    assert "no font here has them" in page.figure._supxlabel.get_text()


@pytest.fixture
def pictured():
    pixels = np.random.default_rng(0).normal(size=(6, 3, 16, 16))
    data = images(pixels)
    return data, Formula(lambda d: np.tanh(d.to_numpy("image")[:, :, :6, :6].sum(axis=(1, 2, 3))), data, Task.REGRESSION)


@pytest.mark.parametrize("kind", ["regions", "superpixels"])
def test_an_image_is_drawn_with_the_regions_that_were_played_with(tmp_path, pictured, kind):
    data, model = pictured
    found = Permutation().explain(model, data.head(3), data, players={"image": kind}, budget=80, fill=0)
    drawn = regions._regions(found, Asked(2, data.head(3)), dimensions=2)
    options = PlayerOptions.read("x", {**PLAYER_OPTIONS, "players": {"image": kind}}, data.schema)
    maps = cut(data.head(3).to_numpy("image"), "image", kind, options).maps
    assert (drawn.map == maps[2 % len(maps)][0]).all()
    assert drawn.shown.shape == (16, 16, 3)
    for ending in ("png", "svg"):
        plot_explanation(found, tmp_path / f"x.{ending}", kind="image", row=2, data=data.head(3))
    words = words_in(tmp_path / "x.svg")
    assert "half of the 95 % interval" in words and "attribution" in words and any(word.startswith(("+", "\u2212")) for word in words)
    if kind == "regions":
        plot_explanation(found, tmp_path / "y.svg", kind="image", row=2)
        assert any("pass data=" in word for word in words_in(tmp_path / "y.svg"))
    else:
        with pytest.raises(UsageError, match="Pass data=|follow from the row"):
            plot_explanation(found, tmp_path / "y.svg", kind="image", row=2)
    with pytest.raises(UsageError, match="6 rows and the explanation 3"):
        plot_explanation(found, tmp_path / "y.svg", kind="image", data=data)
    with pytest.raises(UsageError, match="another shape"):
        plot_explanation(found, tmp_path / "y.svg", kind="image", data=images(np.zeros((3, 4, 4))))
    with pytest.raises(UsageError, match="no regions of a sound"):
        plot_explanation(found, tmp_path / "y.svg", kind="sound", data=data.head(3))


def test_withheld_regions_are_crossed_out(tmp_path, pictured):
    data, model = pictured
    found = Permutation().explain(model, data.head(2), data, budget=80)
    values, errors = found.values.copy(), found.errors.copy()
    values[:, 3:], errors[:, 3:] = np.nan, np.nan
    shown = replace(found, values=values, errors=errors, residuals=found.residual, inputs=[])
    drawn = regions._regions(shown, Asked(0), dimensions=2)
    assert np.isnan(drawn.values[3:]).all()
    plot_explanation(shown, tmp_path / "x.svg", kind="image")
    assert any("13 of 16 attributions withheld" in word for word in words_in(tmp_path / "x.svg"))


def test_sound_is_drawn_over_its_segments_in_seconds(tmp_path):
    wave = np.sin(np.arange(400) / 3) * (abs(np.arange(400) - 130) < 40)
    data = images(np.stack([wave, wave * 0.5, wave * 0]))
    model = Formula(lambda d: np.tanh((d.to_numpy("image") ** 2).sum(axis=1) / 10), data, Task.REGRESSION)
    for cuts in ("equal", "quiet"):
        found = Permutation().explain(model, data, data, players={"image": "segments"}, grid=3, rate=100.0, fill=0, cuts=cuts)
        for ending in ("png", "svg"):
            plot_explanation(found, tmp_path / f"x.{ending}", kind="sound", data=data)
        assert "seconds" in words_in(tmp_path / "x.svg")
    with pytest.raises(UsageError, match="not in the record"):
        plot_explanation(found, tmp_path / "x.svg", kind="sound")


def test_odd_shapes_are_drawn(tmp_path):
    for count, value in ((1, 0.0), (2, 1e-9), (40, -5e7)):
        values = np.full((1, count), value)
        names = tuple("a very long name of a field that never ends $x$ " * 3 + str(i) for i in range(count))
        shown = Explanation("linear", "value", names, values, np.zeros(1), values.sum(axis=1), [[1.0] * count], None, details={"exact": True})
        for kind in TABULAR:
            plot_explanation(shown, tmp_path / "x.svg", kind=kind)
            drawn = words_in(tmp_path / "x.svg")
            assert "linear: exact; adds up to within 0" in drawn and not any("withheld" in word for word in drawn)
            if kind == "force" and value == 0:
                assert "No player moves this answer: every attribution is zero." in drawn
            else:
                assert any(word.startswith("a very long name") for word in drawn)


def test_matplotlib_keeps_no_figure_no_backend_and_no_setting(tmp_path):
    before = dict(mpl.rcParams)
    plot_explanation(estimated(), tmp_path / "x.svg")
    assert dict(mpl.rcParams) == before
    code = (
        "import sys, numpy as np; from affidavit.interfaces.explanation import Explanation;"
        "from affidavit_governance.explain.pictures.plots import plot_explanation;"
        f"plot_explanation(Explanation('linear','value',('a',),np.ones((1,1)),np.zeros(1),np.ones(1),[['x']]), r'{tmp_path / 'x.png'}');"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_wrong_use_is_refused(tmp_path):
    shown = estimated()
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.html"):
        plot_explanation(shown, tmp_path / "x.jpeg")
    for row in (30, -1, True, 1.0):
        with pytest.raises(UsageError, match="no row"):
            plot_explanation(shown, tmp_path / "x.png", row=row)
    with pytest.raises(UsageError, match=r"no plot 'forse'.*force"):
        plot_explanation(shown, tmp_path / "x.png", kind="forse")
    for kind in ("image", "sound"):
        with pytest.raises(UsageError, match="no regions"):
            plot_explanation(shown, tmp_path / "x.png", kind=kind)
    assert not (tmp_path / "x.png").exists() and set(KINDS) == {*TABULAR, "text", "image", "sound"}
