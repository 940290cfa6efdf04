"""Small data sets on which model types are tried: what an author need not bring."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from affidavit.interfaces.dataset import Dataset

ROWS = 120
WORDS = ("good", "kind", "quick", "fresh", "bad", "rude", "slow", "stale")


def mixed_table() -> Dataset:
    """Numbers, categories with gaps, booleans, a date, and two classes that depend on them."""
    generator = np.random.default_rng(0)
    number, other = generator.normal(size=ROWS), generator.normal(size=ROWS)
    colour = np.array(["red", "green", "blue"], dtype=object)[generator.integers(0, 3, ROWS)]
    score = 1.5 * number - other + (colour == "red") + generator.normal(scale=0.5, size=ROWS)
    gap = generator.random(ROWS) < 0.1
    table = {
        "number": pa.array(number, mask=gap),
        "other": other,
        "colour": pa.array(colour, type=pa.string(), mask=generator.random(ROWS) < 0.1),
        "flag": generator.random(ROWS) < 0.4,
        "day": pa.array(np.datetime64("2024-01-01") + generator.integers(0, 300, ROWS).astype("timedelta64[D]")).cast(pa.timestamp("us")),
        "label": np.where(score > 0, "yes", "no"),
    }
    return Dataset.from_arrow(table, name="mixed-table", target="label")


def number_table() -> Dataset:
    """Numbers alone, and two classes."""
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(ROWS, 3))
    label = np.where(matrix[:, 0] + matrix[:, 1] + generator.normal(scale=0.3, size=ROWS) > 0, "yes", "no")
    return Dataset.from_arrow({**{f"x{i}": matrix[:, i] for i in range(3)}, "label": label}, name="number-table", target="label")


def regression_table() -> Dataset:
    """Numbers and a category, and a number to predict."""
    generator = np.random.default_rng(2)
    x, colour = generator.normal(size=ROWS), np.array(["red", "blue"])[generator.integers(0, 2, ROWS)]
    table = {"x": x, "colour": colour, "amount": 3 * x + (colour == "red") + generator.normal(scale=0.1, size=ROWS)}
    return Dataset.from_arrow(table, name="regression-table", target="amount")


def texts() -> Dataset:
    """Short sentences of eight words, and two classes that depend on them."""
    generator = np.random.default_rng(3)
    label = generator.integers(0, 2, ROWS)
    drawn = np.where(generator.random((ROWS, 4)) < 0.85, 4 * label[:, None], 4 * (1 - label[:, None])) + generator.integers(0, 4, (ROWS, 4))
    rows = [" ".join(WORDS[index] for index in row) for row in drawn]
    table = {"text": rows, "label": np.where(label == 0, "praise", "blame")}
    return Dataset.from_arrow(table, name="texts", target="label", fields={"text": {"type": "text"}})


def images() -> Dataset:
    """Eight by eight pictures, bright above or below, and two classes."""
    generator = np.random.default_rng(4)
    label = generator.integers(0, 2, ROWS)
    pixels = generator.integers(0, 120, (ROWS, 8, 8))
    pixels[:, :4] += (label == 0)[:, None, None] * 120
    pixels[:, 4:] += (label == 1)[:, None, None] * 120
    table = {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels.astype(np.uint8)), "label": np.where(label == 0, "above", "below")}
    return Dataset.from_arrow(table, name="images", target="label")


SAMPLES = (mixed_table, number_table, regression_table, texts, images)
"""In the order in which they are tried: the first that a model type learns from is its sample."""
