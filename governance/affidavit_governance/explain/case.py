"""What all explainers share: options, the model as a number a row, the reference rows, the players, and the record."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model, Predictions
from affidavit.interfaces.outputs import LOG_RATIO, explained_output
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.budget import MOST_ROWS, Budget
from affidavit_governance.explain.players.grouping import Grouping, grouped, is_masked

BACKGROUND_ROWS = 100
"""Reference rows used at most, shap's usual size: model rows grow with them, and the mean settles long before."""

ACCEPTS = frozenset({"groups", "model_digest"})
"""What governance may add to the options of the bundled explainers of rows."""

Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """What explainers take. All of them take `label`, `seed`, `groups`, `model_digest` and `report`; sampled ones the budget too.

    Attributes
    ----------
    label
        The class to explain; None is the last class.
    seed
        Of everything random.
    groups
        Fields that are one player together, by the player's name.
    budget
        Model rows that may be spent on each explained row, or a list with one number for each row; None is the method's own default.
    seconds
        Wall-clock seconds that each explained row may take.
    width
        Full width of the 95 % intervals to reach, in units of the explained output.
    model_digest
        Tells models of one type apart, for the keys of everything random; the workspace gives it.
    report
        Called with progress.
    own
        The method's own options.
    """

    label: str | None = None
    seed: int = 0
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    budget: int | Sequence[int] | None = None
    seconds: float | None = None
    width: float | None = None
    model_digest: str = ""
    report: Callable[[Progress], None] = lambda progress: None
    own: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, method: str, given: Mapping[str, Any], *, sampled: bool = False, own: Mapping[str, Any] | None = None) -> Options:
        """Check options by name and kind.

        Parameters
        ----------
        sampled
            Whether the method takes a budget.
        own
            The method's own options with their defaults; it checks their values itself.

        Raises
        ------
        UsageError
            An option is unknown or unfit.
        """
        own = own or {}
        takes = [*_COMMON, *(_BUDGETS if sampled else ()), *own]
        for name, value in given.items():
            if name not in takes:
                shown = [option for option in takes if option != "model_digest"]
                raise UsageError(f"Explainer '{method}' takes no option '{name}'.{nearest(name, shown)}", hint=f"Options: {', '.join(shown)}.")
            if name in _KINDS and value is not None and not _KINDS[name][0](value):
                raise UsageError(f"Option '{name}' of explainer '{method}' must be {_KINDS[name][1]}.")
        return cls(**{name: value for name, value in given.items() if name not in own}, own={name: given.get(name, own[name]) for name in own})

    def check_listed(self, rows: int) -> None:
        """Raise UsageError where a list of budgets has not one for each of `rows`: whose rows those are would be a guess."""
        if isinstance(self.budget, Sequence) and len(self.budget) != rows:
            what = f"The budget lists {len(self.budget)} numbers, and {rows} are due."
            raise UsageError(what, hint="Give one number, or a list with one for each explained row; one in all for a model as a whole.")

    def row_budget(self, row: int, default: int) -> Budget:
        """What explained row `row` may cost."""
        if isinstance(self.budget, Sequence):
            return Budget(self.budget[row], self.seconds, self.width)
        open_ended = self.budget is None and (self.seconds is not None or self.width is not None)
        return Budget(MOST_ROWS if open_ended else default if self.budget is None else self.budget, self.seconds, self.width)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


_COMMON = ("label", "seed", "groups", "model_digest", "report")
_BUDGETS = ("budget", "seconds", "width")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label": (lambda value: isinstance(value, str), "the name of a class"),
    "seed": (lambda value: _whole(value, 0), "a whole number"),
    "groups": (lambda value: isinstance(value, Mapping), "a mapping from a player's name to its fields"),
    "budget": (
        lambda value: _whole(value, 1) or (isinstance(value, (list, tuple)) and len(value) > 0 and all(_whole(each, 1) for each in value)),
        "a whole number of model rows above zero, or a list with one for each explained row",
    ),
    "seconds": (_positive, "a number above zero"),
    "width": (_positive, "a number above zero"),
}


class Score:
    """A model as one number a row, the output that is explained.

    Attributes
    ----------
    rows
        Model rows that were asked for.
    road
        How coalitions were asked: as ``"tables"`` through `predict`, or as ``"encoded rows"``; a colon and why follow where a faster road was closed.

    Parameters
    ----------
    log_odds
        Explain the log-odds of the class rather than its probability.
    log_ratio
        Explain the class's centred log-ratio: the log of its probability over the geometric mean of all classes' (Aitchison 1982). With
        several classes it is what scores behind a softmax give without a constant, so it is additive where they are.
    """

    def __init__(self, model: Model, label: str | None, *, log_odds: bool = False, log_ratio: bool = False) -> None:
        classes = model.fitted.classes
        if label is not None and not classes:
            raise UsageError(f"This {model.type} predicts numbers, so there is no class '{label}' to explain.")
        if label is not None and label not in classes:
            raise UsageError(f"There is no class '{label}'.{nearest(label, classes)}", hint=f"Classes: {', '.join(classes)}.")
        self.model = model
        self.label = label if label is not None else (classes[-1] if classes else None)
        kind = LOG_RATIO if log_ratio else "log-odds" if log_odds else "probability"
        self.output = "value" if self.label is None else f"{kind} of {self.label}"
        self.rows = 0
        self.road = "tables"
        self.precision = "double"
        self._counting = threading.Lock()

    def count(self, rows: int) -> None:
        """So many more model rows were asked for, by any thread."""
        with self._counting:
            self.rows += rows

    def __call__(self, data: Dataset) -> Row:
        self.count(len(data))
        return self.read(self.model.predict(data))

    def read(self, predictions: Predictions) -> Row:
        """The explained number of each row of an answer, checked."""
        scores = explained_output(self.output, predictions)
        if scores is None:
            what = f"Model type '{self.model.type}' gives labels only, so there is no number to explain."
            raise InvalidInput(what, hint="Use a type with probabilities.")
        if not np.isfinite(scores).all():
            raise InvalidInput(f"Model type '{self.model.type}' gave {int((~np.isfinite(scores)).sum())} answers that are not finite numbers.")
        return scores

    def read_array(self, answers: NDArray[np.float64]) -> Row:
        """The same of what an encoded view answers: probabilities (rows × classes), or values."""
        classes = self.model.fitted.classes
        return self.read(Predictions(answers, classes, answers if classes else None))


@dataclass(frozen=True, slots=True)
class Case:
    """What one call explains: rows and reference rows in the model's own columns, the model as a number, and who the players are."""

    score: Score
    data: Dataset
    background: Dataset
    grouping: Grouping
    options: Options

    @classmethod
    def open(
        cls,
        model: Model,
        data: Dataset,
        background: Dataset,
        options: Options,
        *,
        log_odds: bool = False,
        log_ratio: bool = False,
        limit: int = BACKGROUND_ROWS,
    ) -> Case:
        """Bring rows and reference, at most `limit` rows of it, into the model's columns.

        Raises
        ------
        InvalidInput
            The background lacks a column or has a single row.
        UsageError
            A group names what is no input, or a list of budgets is of other rows.
        """
        rows, reference = model.fitted.conform(data), model.fitted.conform(background)
        options.check_listed(len(rows))
        if len(reference) < 2:
            raise InvalidInput(f"The background has {len(reference)} row: an attribution needs several to compare with.", hint="Pass 2 to 100 rows.")
        if len(reference) > limit:
            chosen = np.sort(np.random.default_rng(options.seed).permutation(len(reference))[:limit])
            reference = reference.take(chosen)
        grouping = grouped(list(model.fitted.inputs), options.groups)
        return cls(Score(model, options.label, log_odds=log_odds, log_ratio=log_ratio), rows, reference, grouping, options)

    def row_seed(self, row: int, method: str) -> int:
        """A seed that depends on the row's values, the model and the configuration, but not on the row's neighbours."""
        key = "|".join(
            str(part)
            for part in (
                self.data.take([row]).fingerprint,
                self.score.model.type,
                self.options.model_digest,
                self.score.label,
                self.background.fingerprint,
                sorted((name, tuple(fields)) for name, fields in self.grouping.members.items()),
                method,
                self.options.seed,
            )
        )
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")

    def record(
        self,
        method: str,
        players: Sequence[str],
        values: NDArray[np.float64],
        base: Row | float,
        *,
        inputs: list[list[Any]],
        errors: NDArray[np.float64] | None = None,
        interactions: NDArray[np.float64] | None = None,
        exact: bool,
        additive: bool = True,
        at_once: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> Explanation:
        """The record of this case; `predicted` is asked from the model anew, so that the residual means something.

        Parameters
        ----------
        at_once
            Ask for the answers to all rows in one call, as fits closed forms, where a call for each row would cost more than its attributions.
            Else each row is asked on its own: products of matrices give a row other last bits when it stands in a batch.
        """
        each = [self.data] if at_once else [self.data.take([row]) for row in range(len(self.data))]
        predicted = np.concatenate([self.score(rows) for rows in each]) if len(self.data) else np.empty(0)
        return Explanation(
            method=method,
            output=self.score.output,
            players=tuple(players),
            values=np.asarray(values, dtype=np.float64).reshape(len(self.data), len(players)),
            base=np.broadcast_to(np.asarray(base, dtype=np.float64), (len(self.data),)).copy(),
            predicted=predicted,
            inputs=inputs,
            errors=errors,
            interactions=interactions,
            details={
                "exact": exact,
                "additive": additive,
                "label": self.score.label,
                "classes": list(self.score.model.fitted.classes),
                "masked": sorted({field.name for field in (*self.data.schema, *self.score.model.fitted.inputs) if is_masked(field)}),
                "background": self.background.fingerprint,
                "background_rows": len(self.background),
                "data": self.data.fingerprint,
                "seed": self.options.seed,
                "groups": {name: list(fields) for name, fields in self.grouping.members.items() if len(fields) > 1},
                "model_rows": self.score.rows,
                "road": self.score.road,
                "precision": self.score.precision,
                **(details or {}),
            },
        )
