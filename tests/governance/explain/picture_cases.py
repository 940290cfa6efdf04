"""Explanations to draw, shared by the tests of pictures, pages and tables."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np

from affidavit.interfaces.explanation import Explanation


def estimated(rows=30, players=20):
    """Estimates with intervals; numbers, strings with dollar signs and markup, a category, and gaps."""
    generator = np.random.default_rng(0)
    names = tuple(f"field_{i}" for i in range(players))
    values = generator.normal(size=(rows, players)) * np.linspace(2, 0.1, players)
    base = np.full(rows, 0.1)
    colours = np.array(["red", "green", "blue"])[generator.integers(0, 3, rows)]
    inputs = [[_cell(i, row, values, colours) for i in range(players)] for row in range(rows)]
    details = {"exact": False, "additive": True, "background_rows": 50, "model_rows": 4000, "seed": 0}
    return Explanation(
        "permutation", "probability of good", names, values, base, base + values.sum(axis=1), inputs, abs(values) / 10 + 0.01, details=details
    )


def _cell(player, row, values, colours):
    if player == 1:
        return str(colours[row])
    if player == 2 and row % 7 == 0:
        return None
    return f"cost $5 <b>{player}" if player == 4 else float(values[row, player] * 2)


def exact():
    shown = estimated()
    return replace(shown, method="linear", errors=None, details={**shown.details, "exact": True})


def top_k(k=3):
    shown = estimated()
    values, errors = shown.values.copy(), shown.errors.copy()
    hidden = np.argsort(-abs(values), axis=1)[:, k:]
    np.put_along_axis(values, hidden, np.nan, axis=1)
    np.put_along_axis(errors, hidden, np.nan, axis=1)
    details = {**shown.details, "release": {"mode": "top-k", "k": k}}
    return replace(shown, values=values, errors=errors, residuals=np.full(len(shown), 1e-16), inputs=[], details=details)


def reason_codes():
    shown = estimated()
    order = [
        [{"player": "field_1", "sign": "+", "rank": 1}, {"player": "field_0", "sign": "-", "rank": 2}, {"player": "field_5", "sign": "?", "rank": 2}]
    ]
    hidden = np.full_like(shown.values, np.nan)
    details = {**shown.details, "release": {"mode": "reason-codes", "order": order * len(shown)}}
    return replace(
        shown, values=hidden, base=np.full(len(shown), np.nan), errors=None, residuals=np.full(len(shown), 1e-16), inputs=[], details=details
    )


def words_in(path: Path) -> list[str]:
    """The texts of an SVG or an HTML page, one an element."""
    content = path.read_text()
    return [unescape(re.sub(r"<[^>]+>", "", each)).replace("\u00a0", "") for each in re.findall(r"<text[^>]*>.*?</text>", content, re.S)]
