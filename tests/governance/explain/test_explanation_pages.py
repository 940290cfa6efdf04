"""Explanations in notebooks and terminals: everything escaped, intervals where there are some, withheld values never as zero."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from tests.governance.explain.picture_cases import estimated, exact, reason_codes, top_k

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.captions import label, number, steps
from affidavit_governance.explain.pictures.html import PLAYERS_SHOWN, ROWS_SHOWN, explanation_html
from affidavit_governance.explain.pictures.terminal import explanation_text


class Parsed(HTMLParser):
    """Tags that are opened and closed, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("col", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def shown_in_terminal(explanation, row=0, width=100):
    console = Console(width=width, no_color=True, force_terminal=False, record=True, file=io.StringIO())
    console.print(explanation_text(explanation, row))
    return console.export_text()


@pytest.mark.parametrize("make", [estimated, exact, top_k, reason_codes])
def test_steps_add_up_to_the_prediction_where_anything_is_known(make):
    explanation = make()
    for row in range(3):
        found = steps(explanation, row, 5)
        total = sum(step.value for step in found)
        if np.isfinite(explanation.base[row]):
            assert explanation.base[row] + total == pytest.approx(explanation.predicted[row])
            sizes = [abs(step.value) for step in found if step.kind == "player"]
            assert sizes == sorted(sizes, reverse=True)
        else:
            assert [step.kind for step in found] == ["withheld"] and np.isnan(total)


def test_what_a_quantised_or_unadditive_release_withholds_follows_from_nothing():
    shown = top_k()
    for details in ({"release": {"mode": "quantised", "levels": 5}}, {"additive": False, "release": {"mode": "top-k", "k": 3}}):
        assert np.isnan(steps(replace(shown, details={**shown.details, **details}), 0, 5)[-1].value)


def test_players_without_effect_are_one_step():
    values = np.array([[0.5, 0.0, 0.0, -0.2, 0.0]])
    shown = Explanation("linear", "value", tuple("abcde"), values, np.zeros(1), values.sum(axis=1), details={"exact": True})
    assert [(step.name, step.value) for step in steps(shown, 0, 12)] == [("a", 0.5), ("d", -0.2), ("3 others", 0.0)]
    one = replace(shown, players=tuple("abd"), values=values[:, [0, 1, 3]])
    assert [step.name for step in steps(one, 0, 12)] == ["a", "d", "b"]


def test_rounding_is_shown_as_zero_and_small_numbers_are_not():
    values = np.array([[0.5, 1e-17, -3e-16, 1e-9]])
    errors = np.array([[0.1, 1e-18, 1e-17, 1e-10]])
    shown = Explanation("leverage", "value", tuple("abcd"), values, np.zeros(1), values.sum(axis=1), [], errors, details={"exact": False})
    found = steps(shown, 0, 12)
    assert [(step.name, step.error) for step in found] == [("a", 0.1), ("d", 1e-10), ("2 others", None)] and found[-1].value == 0


def test_names_and_values_are_cut_and_cannot_command_a_terminal():
    assert label("age", 41.0) == "age = 41" and label("age", None) == "age" and label("age", float("nan")) == "age = gap"
    assert len(label("n" * 90, "v" * 90)) == 2 * 28 + 3
    assert label("a name that is far too long to be shown [12]", None) == "a name that is far…hown [12]"
    assert "\x1b" not in label("a\x1b[31m", "b\x07\u202e") and "\u202e" not in label("a", "b\u202e")
    assert number(-0.0) == "0" and number(float("nan")) == "withheld" and number(-2.5, sign=True) == "\u22122.5"


def test_a_page_is_whole_self_contained_and_escapes_everything():
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    shown = replace(estimated(), players=(evil, *estimated().players[1:]), output=f"probability of {evil}", method=evil)
    shown = replace(
        shown, details={**shown.details, "reason": evil, "stability": {"k": evil, "probability": [0.5] * 30, "ties": [[[evil, evil]]] * 30}}
    )
    for make in (shown, replace(shown, inputs=[]), top_k(), reason_codes(), exact()):
        page = explanation_html(make)
        parsed = Parsed(page)
        assert not {tag for tag, _ in parsed.tags} & {"script", "img", "link", "iframe", "a"}
        assert all(name in ("class", "style", "title", "open") for _, attributes in parsed.tags for name in attributes)
        assert "http" not in page and "url(" not in page and "@import" not in page


def test_a_page_has_rows_to_open_with_bars_and_intervals():
    shown = estimated()
    parsed = Parsed(explanation_html(shown))
    text = " ".join(parsed.text)
    assert sum(tag == "details" for tag, _ in parsed.tags) == 30 and "open" in next(a for tag, a in parsed.tags if tag == "details")
    largest = int(np.argmax(abs(shown.values[0])))
    assert f"{shown.values[0, largest]:+.3g} ± {shown.errors[0, largest]:.2g}".replace("-", "\u2212") in text
    for said in ("estimated, with 95 % intervals", "release: full", "50 background rows", "4000 model rows", "seed 0", "residual"):
        assert said in text
    bars = [attributes for tag, attributes in parsed.tags if attributes.get("class") in ("up", "down")]
    ranges = [attributes for tag, attributes in parsed.tags if attributes.get("class") == "range"]
    assert len(ranges) == 30 * 20 and len(bars) == 30 * 20
    for attributes in bars + ranges:
        left, width = (float(found) for found in re.findall(r"(-?[0-9.]+)%", attributes["style"]))
        assert left >= -0.01 and width >= 0 and left + width <= 100.02
    assert not any(attributes.get("class") == "range" for _, attributes in Parsed(explanation_html(exact())).tags)
    assert "signed" not in text and "signed" in explanation_html(replace(shown, signed=b"{}"))


def test_a_page_says_what_is_withheld_and_gives_reasons_in_order():
    text = " ".join(Parsed(explanation_html(top_k())).text)
    assert "17 of 20 attributions withheld (release: top-k 3)" in text and "17 withheld" in text
    text = " ".join(Parsed(explanation_html(reason_codes())).text)
    assert "raises the answer" in text and "direction not certain" in text and "base withheld" in text and "+0" not in text
    shown = top_k()
    quantised = replace(shown, details={**shown.details, "release": {"mode": "quantised", "levels": 5}})
    assert 'class="hidden all"' in explanation_html(quantised)


def test_long_explanations_are_cut_and_say_so():
    page = " ".join(Parsed(explanation_html(estimated(rows=ROWS_SHOWN + 7, players=PLAYERS_SHOWN + 5))).text)
    assert "7 more rows, not shown." in page and "5 others" in page


def test_terminal_bars_are_as_long_as_their_values_and_have_a_sign_without_colour():
    values = np.array([[1.0, -0.5, 0.25, 0.0]])
    errors = np.array([[0.1, 0.6, 0.1, 0.0]])
    names = ("up", "[red]down[/red]", "little", "none")
    shown = Explanation("permutation", "value", names, values, np.zeros(1), values.sum(axis=1), [[1.0, "x", None, 2.0]], errors, details={})
    lines = shown_in_terminal(shown).splitlines()
    assert lines[0] == "row 0: value, base 0 → prediction 0.75"
    bars = {line.split("  ")[0].strip(): line for line in lines[1:5]}
    assert (
        bars["up = 1"].count("█") == 14 and bars["[red]down[/red] = x"].count("█") == 7 and bars["little"].count("█") + bars["little"].count("▌") == 4
    )
    assert bars["up = 1"].index("│") < bars["up = 1"].index("█") and bars["[red]down[/red] = x"].index("█") < bars["[red]down[/red] = x"].index("│")
    assert "+1 ± 0.1" in bars["up = 1"] and bars["[red]down[/red] = x"].rstrip().endswith("\u22120.5 ± 0.6 ?"), "its interval holds zero"
    assert any("estimated, with 95 % intervals" in line for line in lines)


def test_terminal_output_fits_narrow_windows_and_says_what_is_withheld():
    for make in (estimated, exact, top_k, reason_codes):
        assert max(map(len, shown_in_terminal(make(), 1, width=80).splitlines())) <= 80
    narrow = shown_in_terminal(replace(estimated(), players=tuple(f"a long name of field {i}" for i in range(20))), 1, width=64)
    numbers = re.findall(r"± [0-9.]+(?: \?)?$", narrow, re.M)
    assert len(numbers) == 12 and max(map(len, narrow.splitlines()[:13])) <= 64, "names are cut, numbers are not"
    assert "17 withheld" in shown_in_terminal(top_k()) and "░" in shown_in_terminal(top_k())
    assert "1.  field_1  raises the answer" in shown_in_terminal(reason_codes())
    with pytest.raises(UsageError, match="no row 30"):
        explanation_text(estimated(), 30)


def test_records_read_from_json_are_shown_too():
    read = Explanation.from_json(estimated().to_json())
    assert "field_0" in explanation_html(read) and "field_0" in shown_in_terminal(read)
    assert " = " not in shown_in_terminal(read)


def test_notebooks_and_the_registry_find_them():
    from affidavit.plugins import load_service

    assert load_service("explanation_html") is explanation_html and load_service("explanation_text") is explanation_text
    assert estimated()._repr_html_().startswith('<div class="affidavit-explanation">')
