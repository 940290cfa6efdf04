"""The reconstruction audit: how well what is released of explanations gives back the inputs of the explained rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Metric
from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.quality.intervals import ratio_of_means
from affidavit_governance.explain.release.attackers import Attacker, Matrix, mean, nearest, ridge

LEAST_ROWS = 50
"""With fewer rows an attacker has nothing to learn from, so that a low figure would mean nothing."""

MOST_ROWS = 1000
"""Rows that the attackers learn from and guess at most: their time grows with the square."""

_FOLDS = 5
_MOST_CLASSES = 20
"""Categories with more different values among the rows are not measured: most values would be seen once."""


@dataclass(frozen=True, slots=True)
class Guess:
    """How well one input field can be guessed.

    Attributes
    ----------
    kind
        ``"number"`` or ``"category"``.
    share
        From what is released, prediction included: the share of the marginal's error that the attacker removes. For numbers it is R², for
        categories the share of the wrong guesses of the commonest value that become right ones. 1 gives the input back.
    prediction
        The same from the prediction alone.
    gain
        The difference: what the explanation adds.
    attacker
        Which attacker was chosen most often.
    """

    kind: str
    share: Metric
    prediction: Metric
    gain: Metric
    attacker: str

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        numbers = {name: getattr(self, name).to_json() for name in ("share", "prediction", "gain")}
        return {"kind": self.kind, **numbers, "attacker": self.attacker}


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The audit of a release.

    Attributes
    ----------
    fields
        By input field.
    missing
        Why a field, or (``"all"``) the whole, was not measured.
    rows
        Rows that were guessed, each by attackers that had not seen it.
    """

    fields: Mapping[str, Guess]
    missing: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0

    @property
    def worst(self) -> str | None:
        """The field that is given back best; None where nothing was measured."""
        return max(self.fields, key=lambda name: self.fields[name].share.value, default=None)

    def to_json(self) -> dict[str, Any]:
        """The audit as a JSON object; ``maximum`` is the largest share, null where nothing was measured."""
        worst = self.worst
        return {
            "fields": {name: guess.to_json() for name, guess in self.fields.items()},
            "maximum": None if worst is None else {"field": worst, **self.fields[worst].share.to_json()},
            "missing": dict(self.missing),
            "rows": self.rows,
        }


def reconstruction(released: Explanation, data: Dataset, *, seed: int = 0) -> Reconstruction:
    """Let simple attackers guess each input of the explained rows from what is released of their explanations and predictions.

    Cross-validated over five folds; which attacker is used in a fold is chosen by a split of the rows that it learns from, so that the
    best of several is not picked on the rows that it is judged by, and the mean is guessed where none is clearly better there. A
    cleverer attacker may do better: the shares are lower bounds.

    Parameters
    ----------
    released
        What leaves (`release.modes.released`).
    data
        The explained rows in the model's own columns.
    seed
        Of the rows used and the folds.
    """
    if len(released) < LEAST_ROWS:
        return Reconstruction({}, {"all": f"not measured: too few rows ({len(released)}, and it takes {LEAST_ROWS})"})
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(len(released))[:MOST_ROWS])
    fold = generator.permutation(len(rows)) % _FOLDS
    features, players = _features(released)
    fields: dict[str, Guess] = {}
    missing: dict[str, str] = {}
    for name in data.schema.names:
        target = _target(data, name, rows)
        if isinstance(target, str):
            missing[name] = f"not measured: {target}"
            continue
        kind, values, has = target
        if has.sum() < LEAST_ROWS:
            missing[name] = f"not measured: too few rows ({int(has.sum())} have a value, and it takes {LEAST_ROWS})"
            continue
        own = np.array([_belongs(player, name, released.details.get("groups") or {}) for player in players])
        used = rows[has]
        fields[name] = _guess(kind, values[has], features[used], own, released.predicted[used][:, None], fold[has])
    return Reconstruction(fields, missing, len(rows))


def _guess(kind: str, target: Matrix, released: Matrix, own: NDArray[np.bool_], predicted: Matrix, fold: NDArray[np.int64]) -> Guess:
    """One field: the errors of the marginal, of the prediction alone and of all that is released, on rows that no attacker had seen."""
    everything = np.hstack([released, predicted])
    mine = np.hstack([released[:, own], predicted])
    full = {"ridge": (ridge, everything), "nearest": (nearest(10), everything)}
    if own.any():
        full |= {
            "like the nearest in the field": (nearest(1), released[:, own]),
            "nearest in the field": (nearest(5), released[:, own]),
            "nearest in the field and the prediction": (nearest(5), mine),
        }
    alone = {"ridge": (ridge, predicted), "nearest": (nearest(10), predicted)}
    nothing: dict[str, tuple[Attacker, Matrix]] = {"mean": (mean, predicted)}
    marginal, _ = _errors(kind, target, nothing, fold)
    from_prediction, _ = _errors(kind, target, nothing | alone, fold)
    from_all, chosen = _errors(kind, target, nothing | alone | full, fold)
    return Guess(
        kind,
        ratio_of_means(marginal - from_all, marginal),
        ratio_of_means(marginal - from_prediction, marginal),
        ratio_of_means(from_prediction - from_all, marginal),
        chosen,
    )


def _errors(kind: str, target: Matrix, attackers: Mapping[str, tuple[Attacker, Matrix]], fold: NDArray[np.int64]) -> tuple[Matrix, str]:
    """Each row's error under the attacker chosen on a part of the rows that it learnt from, and the attacker chosen most often."""
    errors = np.zeros(len(target))
    chosen: list[str] = []
    for number in range(_FOLDS):
        known, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        aside = fold[known] == (number + 1) % _FOLDS
        inner, outer = known[~aside], known[aside]

        held = {
            name: _error(kind, target[outer], _within(attack(features[inner], target[inner], features[outer]), target[inner]))
            for name, (attack, features) in attackers.items()
        }
        best = _clear_best(held)
        attack, features = attackers[best]
        errors[asked] = _error(kind, target[asked], _within(attack(features[known], target[known], features[asked]), target[known]))
        chosen.append(best)
    return errors, max(attackers, key=chosen.count)


def _within(guessed: Matrix, known: Matrix) -> Matrix:
    """No attacker guesses far beyond the values that it knows: a line that runs off would make him look worse than he is."""
    low, high = known.min(axis=0), known.max(axis=0)
    beyond = (high - low) / 2
    return np.clip(guessed, low - beyond, high + beyond)


def _clear_best(errors: Mapping[str, Matrix]) -> str:
    """The attacker with the least error on held-out rows, or the mean where none is better than it by more than its standard error."""
    best = min(errors, key=lambda name: float(errors[name].sum()))
    better = errors["mean"] - errors[best]
    clear = better.mean() > better.std() / np.sqrt(len(better))
    return best if clear else "mean"


def _error(kind: str, truth: Matrix, guessed: Matrix) -> Matrix:
    """The squared error of a number, or one for a wrong category."""
    if kind == "number":
        error: Matrix = ((truth - guessed) ** 2).sum(axis=1)
        return error
    wrong: Matrix = (truth.argmax(axis=1) != guessed.argmax(axis=1)).astype(np.float64)
    return wrong


def _target(data: Dataset, name: str, rows: NDArray[np.int64]) -> tuple[str, Matrix, NDArray[np.bool_]] | str:
    """What kind of input it is, its values as rows × columns, and which rows have one; or why it is not measured."""
    field = data.schema[name]
    if field.type in (FieldType.TEXT, FieldType.TENSOR):
        return f"a {field.type} is no single number or category"
    if field.type in (FieldType.NUMERIC, FieldType.DATETIME):
        numbers = data.to_numpy(name)[rows]
        has = np.isfinite(numbers)
        if not has.any() or np.ptp(numbers[has]) == 0:
            return "it has the same value in all rows"
        return "number", np.where(has, numbers, 0.0)[:, None], has
    texts = data.to_text(name)
    labels = [texts[row] for row in rows]  # a gap is a category of its own
    place = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    if len(place) == 1:
        return "it has the same value in all rows"
    if len(place) > _MOST_CLASSES:
        return f"it has {len(place)} different values"
    return "category", np.eye(len(place))[[place[label] for label in labels]], np.ones(len(rows), dtype=bool)


def _features(released: Explanation) -> tuple[Matrix, list[str]]:
    """All that a reader gets of each row but the prediction, as numbers, and the player that each column is about ("" for none)."""
    columns: list[Matrix] = []
    players: list[str] = []
    blocks = [released.values, *([] if released.errors is None else [released.errors]), *_ranks(released)]
    for block in blocks:
        known = np.isfinite(block)
        for place, player in enumerate(released.players):
            if known[:, place].any():
                columns.append(np.where(known[:, place], block[:, place], 0.0))
                players.append(player)
                if not known[:, place].all():
                    columns.append(known[:, place].astype(np.float64))
                    players.append(player)
    if np.isfinite(released.base).all():
        columns.append(released.base)
        players.append("")
    return (np.stack(columns, axis=1) if columns else np.empty((len(released), 0))), players


def _ranks(released: Explanation) -> list[Matrix]:
    """The order that reason codes give, as one signed number a player: the strongest of k is ±k, one that is not named 0."""
    order = (released.details.get("release") or {}).get("order")
    if order is None:
        return []
    place = {player: number for number, player in enumerate(released.players)}
    ranks = np.zeros((len(released), len(released.players)))
    most = int(released.details["release"]["k"])
    for row, named in enumerate(order):
        for each in named:
            ranks[row, place[each["player"]]] = (most + 1 - each["rank"]) * (-1 if each["sign"] == "-" else 1)
    return [ranks]


def _belongs(player: str, name: str, groups: Mapping[str, Any]) -> bool:
    """Whether a player is the field, has it in its group, or is a part of it."""
    return player == name or name in groups.get(player, ()) or player.startswith(f"{name} ")
