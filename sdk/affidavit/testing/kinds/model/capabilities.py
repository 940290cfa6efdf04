"""Checks that a model type's claimed capabilities are true."""

from __future__ import annotations

from typing import Any

import numpy as np

from affidavit.interfaces.model import EncodedView
from affidavit.plugins import load_service
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.model.api import ROUNDING
from affidavit.testing.kinds.model.subject import ModelSubject, answers
from affidavit.testing.report import Tier


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
    if found.shape != own.shape or float(np.max(abs(found - own), initial=0.0)) > ROUNDING:
        raise CheckFailed("the encoded view's estimator answers otherwise than predict.")


@check("model", Tier.API, needs=["torch_module"])
def torch_module_reproduces_predict(subject: ModelSubject) -> None:
    """`torch_view` gives a module, its encoding and the road from its output to the model's own answers."""
    view = subject.fitted.torch_view()
    if view.score is None:
        raise CheckFailed("its torch view has no 'score': the function from the module's output to what predict answers.")
    outputs = view.score(view.module(view.encode(subject.rows)))
    found, own = outputs.detach().double().numpy().reshape(len(subject.rows), -1), answers(subject.fitted.predict(subject.rows))
    if found.shape != own.shape or float(np.max(abs(found - own), initial=0.0)) > ROUNDING:
        raise CheckFailed("the torch view's module and score answer otherwise than predict.")


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
    if found.shape != own.shape or float(np.max(abs(found - own), initial=0.0)) > ROUNDING:
        raise CheckFailed(f"{what} of the encoded view answers otherwise than predict.")


def _common_row(data: Any) -> int:
    """A row whose class other rows have too: the set of classes is public."""
    target = data.schema.target
    values = data.to_list(target.name)
    return next((row for row, value in enumerate(values) if values.count(value) > 2), 0)
