"""Models given as formulas, and tables for them, shared by the tests of explanations."""

from __future__ import annotations

from math import factorial

import numpy as np
import pyarrow as pa

from affidavit import Dataset, Model, Signature, Task
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.schema import Schema

COLOURS = ("red", "green", "blue")


class Formula(Model):
    """A model given as a function from a data set to the probability of ``yes``, or to numbers."""

    type = "test.formula"

    def __init__(self, function, data, task=Task.BINARY):
        super().__init__()
        self.function = function
        self.calls = 0
        self.signature = Signature(Schema(data.schema.features), task, "y", ("no", "yes") if task.classifies else ())

    def fit(self, data, training=None):
        return self

    def predict(self, data):
        data = self.fitted.conform(data)
        self.calls += 1
        score = np.asarray(self.function(data), dtype=float)
        if self.fitted.task is Task.REGRESSION:
            return Predictions(score)
        both = np.stack([1 - score, score], axis=1)
        return Predictions(np.where(score > 0.5, "yes", "no"), ("no", "yes"), both)

    def save(self, files):
        raise NotImplementedError

    @classmethod
    def load(cls, files):
        raise NotImplementedError


def make_table(rows, seed=0, numbers=2, gaps=True):
    """Numbers, strings with gaps, a boolean and a target that depends on them."""
    generator = np.random.default_rng(seed)
    columns = {f"x{i}": generator.normal(size=rows) for i in range(numbers)}
    colour = np.array(COLOURS, dtype=object)[generator.integers(0, 3, rows)]
    if gaps:
        colour[generator.random(rows) < 0.1] = None
    columns["colour"] = pa.array(colour, type=pa.string())
    columns["flag"] = generator.random(rows) < 0.4
    score = columns["x0"] * 1.5 - columns["x1"] + (colour == "red") * 2 + columns["flag"] * columns["x0"]
    columns["y"] = np.where(score + generator.normal(size=rows) > 0.5, "yes", "no")
    return Dataset.from_arrow(columns, name="toy", target="y", fields={"colour": {"type": "categorical"}})


def interacting(data):
    """A probability in which strings, gaps, numbers and booleans interact."""
    colour = np.array([{"red": 1.0, "green": -1.0, None: 0.5}.get(value, 0.0) for value in data.to_list("colour")])
    x0, x1, flag = data.to_numpy("x0"), data.to_numpy("x1"), data.to_numpy("flag")
    return 1 / (1 + np.exp(-(x0 * colour + 0.7 * x1 * flag - 0.3 * x0 * x1 * colour)))


def brute_force(model, data, background, row):
    """The interventional Shapley values of P(yes), by enumeration over single rows of Python values."""
    names = [field.name for field in model.fitted.inputs]
    own = {name: data.to_list(name)[row] for name in names}
    rows = [{name: background.to_list(name)[i] for name in names} for i in range(len(background))]
    count = len(names)

    def value(code):
        mixed = [{name: own[name] if code >> i & 1 else other[name] for i, name in enumerate(names)} for other in rows]
        table = pa.table({name: pa.array([m[name] for m in mixed], type=data.column(name).type) for name in names})
        return model.predict(Dataset(table, data.select(names).schema)).score("yes").mean()

    worth = [value(code) for code in range(2**count)]
    values = np.zeros(count)
    for i in range(count):
        for code in range(2**count):
            if not code >> i & 1:
                size = code.bit_count()
                values[i] += factorial(size) * factorial(count - size - 1) / factorial(count) * (worth[code | 1 << i] - worth[code])
    return values


def sms(texts):
    return Dataset(pa.table({"text": texts}), Dataset.from_arrow({"text": texts}, fields={"text": {"type": "text"}}).schema)


def spam(data):
    """Each 'free' adds 0.2; 'free' together with 'now' adds 0.3."""
    words = [(text or "").split() for text in data.to_list("text")]
    return np.array([0.1 + 0.2 * min(2, w.count("free")) + 0.3 * ("free" in w and "now" in w) for w in words])


def images(values):
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(values)})
    return Dataset.from_arrow(table)
