"""Which explainer fits a model best, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.model import Model, Task
from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.case import BACKGROUND_ROWS

EXACT_ROWS = 2**17
"""Model rows that enumerating one explained row may cost: ten fields against a hundred background rows, under a second."""


def choose(model: Model, background: Dataset, method: str | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Name the explainer for `model`, and the reason for the choice.

    The order is closed form, exact trees, enumeration, sampled orders. It does not depend on which rows are explained, so that a row
    alone and the same row in a batch get the same method.

    Raises
    ------
    UsageError
        `method` is one of the built-in ones and does not fit; the message says why and which fit.
    """
    why_not = {name: unfit(model, background) for name, unfit in _UNFIT.items()}
    fits = [name for name, reason in why_not.items() if reason is None]
    if method is not None:
        reason = why_not.get(method)
        if reason is not None:
            raise UsageError(f"Method '{method}' does not fit this {model.type}: {reason}.", hint=f"Methods that fit: {', '.join(fits)}.")
        return method, "asked for by name"
    return fits[0], _REASON[fits[0]].format(fields=len(model.fitted.inputs))


def model_only(data: Dataset, background: Dataset) -> Explainer:
    """The best explainer that asks only for the model's answers."""
    from affidavit_governance.explain.methods.sampled import Exact, Permutation

    return Exact() if _enumeration_rows(len(data.schema), background) <= EXACT_ROWS else Permutation()


def _enumeration_rows(fields: int, background: Dataset) -> int:
    return int(2**fields) * min(len(background), BACKGROUND_ROWS)


def linear_unfit(model: Model) -> str | None:
    """Why the closed form does not apply to `model`, if it does not."""
    if not model.capabilities.linear:
        return "the model is not linear"
    if model.fitted.task is Task.MULTICLASS:
        return "the log-odds of one among several classes are not linear"
    return None


def tree_unfit(model: Model) -> str | None:
    """Why tree values do not apply to `model`, if they do not."""
    if not model.capabilities.tree_ensemble:
        return "the model is no tree ensemble"
    if model.fitted.task is Task.MULTICLASS and model.encoded_view().output == "log-odds":
        return "the scores of boosted trees for several classes are not log-odds"
    return None


def _words(model: Model, background: Dataset) -> str | None:
    return None if _all_of(model, FieldType.TEXT) else "not all its inputs are text"


def _regions(model: Model, background: Dataset) -> str | None:
    return None if _all_of(model, FieldType.TENSOR) else "not all its inputs are tensors"


def _exact(model: Model, background: Dataset) -> str | None:
    rows = _enumeration_rows(len(model.fitted.inputs), background)
    return None if rows <= EXACT_ROWS else f"enumerating {len(model.fitted.inputs)} fields takes {rows} model rows for each explained row"


def _tabular(model: Model, background: Dataset) -> str | None:
    finer = _words(model, background) is None or _regions(model, background) is None
    return "its inputs are text or tensors, of which a field is no useful player" if finer else None


def _lime(model: Model, background: Dataset) -> str | None:
    kinds = {field.type for field in model.fitted.inputs}
    return "it perturbs numbers and categories, not tensors or text" if kinds & {FieldType.TENSOR, FieldType.TEXT} else None


def _all_of(model: Model, kind: FieldType) -> bool:
    return all(field.type is kind for field in model.fitted.inputs)


_UNFIT: dict[str, Callable[[Model, Dataset], str | None]] = {
    "linear": lambda model, background: linear_unfit(model),
    "tree": lambda model, background: tree_unfit(model),
    "exact": lambda model, background: _tabular(model, background) or _exact(model, background),
    "permutation": lambda model, background: None,
    "kernel": _tabular,
    "lime": _lime,
}
"""Why a built-in explainer does not fit a model; in the order of preference."""

_REASON = {
    "linear": "the model is linear, so its values have a closed form",
    "tree": "the model is a tree ensemble, for which exact values are cheap",
    "exact": "all coalitions of {fields} fields can be enumerated",
    "permutation": "{fields} fields have too many coalitions to enumerate, so orders are sampled, with error bars",
}
