"""Checks that a model type's claimed capabilities are true."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from affidavit.errors import InvalidInput, MissingExtra
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import EncodedView, OnnxView
from affidavit.onnx_format import deviation, notes
from affidavit.plugins import load_service
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.model.api import ROUNDING, odd_columns
from affidavit.testing.kinds.model.subject import ModelSubject, answers, difference
from affidavit.testing.report import Tier

SINGLE_PRECISION = 1e-5
"""How far a graph's answers may be from the model's, of the largest number: runtimes compute in single precision and in another order."""


@check("model", Tier.API, needs=["linear"])
def linear_structure_reproduces_predict(subject: ModelSubject) -> None:
    """`encoded_view` gives coefficients and an intercept from which the model's own answers follow."""
    view = _encoded(subject)
    if view.coefficients is None or view.intercept is None:
        raise CheckFailed("it claims the capability 'linear' and its encoded view has no coefficients.")
    score = view.encode(subject.fitted.fitted.conform(subject.rows)) @ np.atleast_2d(view.coefficients).T + np.asarray(view.intercept)
    _same_answers(subject, score, view.output, "the linear score")


@check("model", Tier.API, needs=["tree_ensemble"])
def tree_structure_reproduces_predict(subject: ModelSubject) -> None:
    """`encoded_view` gives a tree ensemble from which the model's own answers follow."""
    view = _encoded(subject)
    if view.estimator is None:
        raise CheckFailed("it claims the capability 'tree_ensemble' and its encoded view has no estimator.")
    matrix = view.encode(subject.fitted.fitted.conform(subject.rows))
    ask = view.estimator.predict_proba if hasattr(view.estimator, "predict_proba") else view.estimator.predict
    found, own = np.asarray(ask(matrix), dtype=np.float64).reshape(len(subject.rows), -1), answers(subject.fitted.predict(subject.rows))
    if difference(own, found) > ROUNDING:
        raise CheckFailed("the encoded view's estimator answers otherwise than predict.")


@check("model", Tier.API, needs=["torch_module"])
def torch_module_reproduces_predict(subject: ModelSubject) -> None:
    """`torch_view` gives a module, its encoding and the road from its output to the model's own answers."""
    view = subject.fitted.torch_view()
    if view.score is None:
        raise CheckFailed("its torch view has no 'score': the function from the module's output to what predict answers.")
    outputs = view.score(view.module(view.encode(subject.rows)))
    found, own = outputs.detach().double().numpy().reshape(len(subject.rows), -1), answers(subject.fitted.predict(subject.rows))
    if difference(own, found) > ROUNDING:
        raise CheckFailed("the torch view's module and score answer otherwise than predict.")


@check("model", Tier.API, needs=["onnx"])
def onnx_graph_reproduces_predict(subject: ModelSubject) -> None:
    """Run by onnxruntime, the graph of `onnx_view` answers many rows, one row and odd rows as `predict` and `torch_view` do."""
    view = _onnx_view(subject)
    for what, rows in (("", subject.rows), *_odd_rows(subject.rows)):
        try:
            expected = subject.fitted.predict(rows)
        except InvalidInput:
            continue  # refused rows are another check's business
        own = expected.values if not expected.classes else expected.probabilities
        if own is None:
            raise Skip("it gives labels only, and a graph's output is numbers")
        _close(_ran(view, subject.fitted.fitted.conform(rows), own), f"the ONNX graph answers otherwise than predict{what}")
    if "torch_module" in subject.claimed:
        torch_view = subject.fitted.torch_view()
        if torch_view.score is not None:
            answered = torch_view.score(torch_view.module(torch_view.encode(subject.rows))).detach().double().numpy()
            _close(_ran(view, subject.fitted.fitted.conform(subject.rows), answered), "the ONNX graph answers otherwise than the torch view")


@check("model", Tier.API, needs=["onnx"])
def onnx_graph_holds_the_model_and_nothing_else(subject: ModelSubject) -> None:
    """The graph is sound, whole and the same each time, and holds no notes, no paths and none of the rows that the model learnt from."""
    view = _onnx_view(subject)
    try:
        found = notes(view.graph)
    except MissingExtra as error:
        raise Skip(str(error)) from None
    except InvalidInput as error:
        raise CheckFailed(str(error)) from None
    if found:
        raise CheckFailed(f"the ONNX graph holds {', '.join(found)}: affidavit.onnx_format.canonical takes notes out; keep weights inside.")
    if _onnx_view(subject).graph != view.graph:
        raise CheckFailed("two exports of one model differ: name nothing at random, and give affidavit.onnx_format.canonical the last word.")
    places = {str(Path.home()), str(Path.cwd()), sys.prefix}
    if any(len(place) > len("/root") and place.encode() in view.graph for place in places):
        raise CheckFailed("the ONNX graph holds a path of this machine.")
    for name, array in view.encode(subject.fitted.fitted.conform(subject.data.features())).items():
        for row in np.asarray(array):
            # Flags alone say nothing of a row, and zeros and ones may stand in any weights.
            telling = len(set(np.unique(row).tolist()) - {-1, 0, 1}) > 1
            if telling and any(np.ascontiguousarray(row, dtype=kind).tobytes() in view.graph for kind in (row.dtype, "f4", "f8")):
                raise CheckFailed(f"the ONNX graph holds rows of '{name}' that the model learnt from.")


@check("model", Tier.API, needs=["private_training"])
def private_training_bounds_each_record(subject: ModelSubject) -> None:
    """A neighbour replay finds nothing of one record but its clipped gradient in what private training does."""
    data = subject.data
    report = load_service("neighbour_replay")(subject.make, data, _common_row(data))
    if report.faults:
        raise CheckFailed(f"it claims the capability 'private_training', and a neighbour replay found: {'; '.join(report.faults)}")


def _encoded(subject: ModelSubject) -> EncodedView:
    view = subject.fitted.encoded_view()
    if not isinstance(view, EncodedView):
        raise CheckFailed(f"encoded_view gave {type(view).__name__}, not an EncodedView.")
    matrix = view.encode(subject.fitted.fitted.conform(subject.rows))
    if matrix.shape != (len(subject.rows), len(view.players)):
        raise CheckFailed(f"the encoding has the shape {matrix.shape}, and 'players' names {len(view.players)} columns.")
    unknown = set(view.players) - set(subject.fitted.fitted.inputs.names)
    if unknown:
        raise CheckFailed(f"'players' names {', '.join(sorted(unknown))}, which is no input.")
    return view


def _same_answers(subject: ModelSubject, score: Any, output: str, what: str) -> None:
    own = answers(subject.fitted.predict(subject.rows))
    if output == "value" or not subject.fitted.fitted.classes:
        found = score.reshape(len(subject.rows), -1)
    elif score.shape[1] == 1:
        found = np.concatenate([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))], axis=1)
    else:
        raise Skip(f"how {what} of several classes becomes probabilities is the model's own affair")
    if difference(own, found) > ROUNDING:
        raise CheckFailed(f"{what} of the encoded view answers otherwise than predict.")


def _onnx_view(subject: ModelSubject) -> OnnxView:
    try:
        view = subject.fitted.onnx_view()
    except MissingExtra as error:
        raise Skip(str(error)) from None
    if not isinstance(view, OnnxView):
        raise CheckFailed(f"onnx_view gave {type(view).__name__}, not an OnnxView.")
    return view


def _ran(view: OnnxView, rows: Dataset, expected: Any) -> float:
    try:
        return deviation(view, rows, np.asarray(expected, dtype=np.float64))
    except MissingExtra as error:
        raise Skip(str(error)) from None
    except InvalidInput as error:
        raise CheckFailed(str(error)) from None


def _close(apart: float, what: str) -> None:
    if not apart <= SINGLE_PRECISION:
        raise CheckFailed(f"{what}, by {apart:.2g} of the largest number.")


def _odd_rows(rows: Dataset) -> Iterator[tuple[str, Dataset]]:
    """Rows with a column of gaps or of unseen categories, and what they are."""
    for name, column in odd_columns(rows):
        index = rows.table.column_names.index(name)
        yield f" where '{name}' has odd values", Dataset(rows.table.set_column(index, name, column), rows.schema, name="odd")


def _common_row(data: Any) -> int:
    """A row whose class other rows have too: the set of classes is public."""
    target = data.schema.target
    values = data.to_list(target.name)
    return next((row for row, value in enumerate(values) if values.count(value) > 2), 0)
