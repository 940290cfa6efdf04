"""Which explainer fits a model best, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.model import Model
from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.case import BACKGROUND_ROWS
from affidavit_governance.explain.players.grouping import grouped

EXACT_ROWS = 2**17
"""Model rows that enumerating one explained row may cost where no budget is given: ten fields against a hundred background rows."""

SAMPLED_PLAYERS = 128
"""Players up to which sampled coalitions are preferred to gradients: intervals then stay narrow at the default budget, and Shapley values need no
differentiable path."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What the choice depends on: the model and the call's options, never the rows, so that a row alone gets the method that it gets in a batch."""

    model: Model
    background: Dataset
    options: Mapping[str, Any]

    @property
    def players(self) -> int:
        """Fields, with groups as one."""
        groups = self.options.get("groups")
        return len(grouped(list(self.model.fitted.inputs), groups if isinstance(groups, Mapping) else {}).names)

    @property
    def enumeration(self) -> int:
        """Model rows that all coalitions of one explained row cost."""
        return int(2**self.players) * min(len(self.background), BACKGROUND_ROWS)

    @property
    def kinds(self) -> frozenset[FieldType]:
        """The types of the inputs."""
        return frozenset(field.type for field in self.model.fitted.inputs)

    @property
    def finer(self) -> bool:
        """Whether players are smaller than fields: words of texts, regions of tensors, or what the caller says."""
        return bool(self.options.get("players")) or bool(self.kinds & {FieldType.TEXT, FieldType.TENSOR})


def choose(model: Model, background: Dataset, method: str | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Name the explainer for `model`, and the reason for the choice.

    The order is closed form, exact trees, enumeration where it fits the budget, Owen values of texts and tensors, gradients of torch models with
    very many fields, sampled coalitions.

    Raises
    ------
    UsageError
        `method` is one of the built-in ones and does not fit; the message says why and which fit.
    """
    question = _Question(model, background, options or {})
    why_not = {name: unfit(question) for name, unfit in _UNFIT.items()}
    fits = [name for name, reason in why_not.items() if reason is None]
    if method is not None:
        reason = why_not.get(method)
        if reason is not None:
            raise UsageError(f"Method '{method}' does not fit this {model.type}: {reason}.", hint=f"Methods that fit: {', '.join(fits)}.")
        return method, "asked for by name"
    chosen = next(name for name in fits if name not in _PREFERRED or _PREFERRED[name](question))
    return chosen, _REASON[chosen].format(players=question.players)


def model_only(data: Dataset, background: Dataset) -> Explainer:
    """The best explainer that asks only for the model's answers."""
    from affidavit_governance.explain.methods.sampled import Exact, Leverage

    return Exact() if int(2 ** len(data.schema)) * min(len(background), BACKGROUND_ROWS) <= EXACT_ROWS else Leverage()


def linear_unfit(model: Model) -> str | None:
    """Why the closed form does not apply to `model`, if it does not."""
    return None if model.capabilities.linear else "the model is not linear"


def tree_unfit(model: Model) -> str | None:
    """Why tree values do not apply to `model`, if they do not."""
    return None if model.capabilities.tree_ensemble else "the model is no tree ensemble"


def torch_unfit(model: Model) -> str | None:
    """Why gradients do not apply to `model`, if they do not."""
    return None if model.capabilities.torch_module else "the model shows no torch module"


def _exact(question: _Question) -> str | None:
    if question.finer:
        return None  # how many words or regions there are, the rows say: the method itself refuses what its budget does not pay for
    budget = question.options.get("budget")
    listed = budget if isinstance(budget, (list, tuple)) else [budget]
    paid = max([EXACT_ROWS, *(rows for rows in listed if isinstance(rows, int))])
    if question.enumeration <= paid:
        return None
    return f"enumerating {question.players} players takes {question.enumeration} model rows for each explained row"


def _fields(question: _Question) -> str | None:
    return _TOO_COARSE if question.kinds <= {FieldType.TEXT, FieldType.TENSOR} else None


def _lime(question: _Question) -> str | None:
    return "it perturbs numbers and categories, not tensors or text" if question.kinds & {FieldType.TENSOR, FieldType.TEXT} else None


_TOO_COARSE = "its inputs are text or tensors, of which a field is no useful player"

_UNFIT: dict[str, Callable[[_Question], str | None]] = {
    "linear": lambda question: linear_unfit(question.model),
    "tree": lambda question: tree_unfit(question.model),
    "exact": _exact,
    "partition": lambda question: None,
    "gradient": lambda question: torch_unfit(question.model),
    "leverage": lambda question: None,
    "permutation": lambda question: None,
    "kernel": _fields,
    "deep": lambda question: torch_unfit(question.model),
    "lime": _lime,
}
"""Why a built-in explainer does not fit; in the order of preference."""

_PREFERRED: dict[str, Callable[[_Question], bool]] = {
    "exact": lambda question: not question.finer,
    "partition": lambda question: question.kinds <= {FieldType.TEXT, FieldType.TENSOR} and not question.options.get("players"),
    "gradient": lambda question: not question.finer and question.players > SAMPLED_PLAYERS,
}
"""When a method that fits is taken without being asked for by name, where that is not always."""

_REASON = {
    "linear": "the model is linear, so its values have a closed form",
    "tree": "the model is a tree ensemble, for which exact values are cheap",
    "exact": "all coalitions of {players} players can be enumerated",
    "partition": "words and regions have neighbours, over whose groups Owen values take few coalitions",
    "gradient": "{players} players are too many to sample coalitions of, and the model has gradients",
    "leverage": "{players} players have too many coalitions to enumerate, so pairs of them are sampled, with error bars",
}
