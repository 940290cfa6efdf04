"""Reason codes: the factors that pushed an adverse decision, in order, as far as they can be told apart.

The context is 12 CFR 1002.9(b)(2) (Regulation B): a statement of reasons names the specific, principal reasons, and its official
interpretation says that they must relate to factors that were scored and that more than four are unlikely to help. Attributions against a
reference population are one way to choose reasons; whether they satisfy a law is not for this module to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.schema import FieldType
from affidavit.policy import ReasonPolicy
from affidavit_governance.explain.players.grouping import MASKED
from affidavit_governance.explain.release.wording import Wording, readable, refused

_NOISE = 1e-9
"""Share of a row's summed attributions that arithmetic alone may make."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One factor that pushed towards the adverse decision.

    Attributes
    ----------
    code
        Stable short name, made of the feature's.
    feature
        The player of the explanation: a field that was scored, or a group of fields.
    rank
        From 1; reasons that cannot be told apart share one.
    tied
        Whether another player has the same rank.
    text
        The sentence; it may hold the row's value.
    """

    code: str
    feature: str
    rank: int
    tied: bool
    text: str


@dataclass(frozen=True, slots=True)
class RowReasons:
    """The reasons of one row.

    Attributes
    ----------
    adverse
        Whether the decision is adverse; other rows have no reasons.
    left_out
        Features that weigh as much as the last reason, and had no room.
    notes
        What has to be said with the reasons: ties, what was left out or withheld, or why there is none.
    """

    adverse: bool
    reasons: tuple[Reason, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasonCodes:
    """The reasons of all rows.

    Attributes
    ----------
    adverse
        The class, or the range, that counts as adverse.
    reference
        The reference point in words.
    reference_rows, background
        How many rows the attributions compare with, and the digest of these rows.
    """

    rows: tuple[RowReasons, ...]
    adverse: str
    language: str
    reference: str
    reference_rows: int
    background: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> RowReasons:
        return self.rows[row]

    def __iter__(self) -> Iterator[RowReasons]:
        return iter(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Codes, features and ranks, without the sentences, which may hold values of the rows."""
        return {
            "adverse": self.adverse,
            "language": self.language,
            "reference": {"rows": self.reference_rows, "background": self.background},
            "rows": [
                {
                    "adverse": row.adverse,
                    "reasons": [{"code": reason.code, "feature": reason.feature, "rank": reason.rank, "tied": reason.tied} for reason in row.reasons],
                    "left_out": list(row.left_out),
                    "notes": list(row.notes),
                }
                for row in self.rows
            ],
        }


def reason_codes(
    explanation: Explanation,
    policy: ReasonPolicy | None = None,
    *,
    decisions: Sequence[Any] | None = None,
    background: Dataset | None = None,
) -> ReasonCodes:
    """The reasons for each adverse decision: at most four players that certainly pushed towards it, strongest first.

    A player is a reason where its attribution points to the adverse outcome and its 95 % interval, or for exact methods the additivity
    residual, leaves out zero. Two players are tied where their difference is within the sum of their intervals.

    Parameters
    ----------
    policy
        ``policy.explain.reasons``; default: the first class is adverse, four reasons, English.
    decisions
        The model's decision for each row. Needed where the explanation does not tell it: for more than two classes, for a model that does
        not decide for the likelier class, and outside a workspace.
    background
        The reference rows, for a wording with ``{reference}``: the median of a number, the commonest of other values.

    Raises
    ------
    UsageError
        The adverse class does not exist or is not the one explained, or what is needed was not given.
    InvalidInput
        Attributions are estimates without intervals, or the explanation does not say what it compares with.
    Refused
        A wording shows the value of a masked field or of a group, or has unknown places.
    """
    policy = policy or ReasonPolicy()
    wording = Wording(policy)
    digest, rows = explanation.details.get("background"), explanation.details.get("background_rows")
    if not isinstance(digest, str) or not isinstance(rows, int):
        raise InvalidInput(f"The '{explanation.method}' explanation does not say which reference rows it compares with, so it gives no reasons.")
    names = {player: wording.places(player) for player in explanation.players}
    _check_values(explanation, policy, names)
    references = _references(explanation, background, [player for player, places in names.items() if "reference" in places], digest)
    adverse, sign, outcome = _adverse(explanation, policy, decisions)
    codes = _codes(explanation.players)

    def of_row(row: int) -> RowReasons:
        pushes = _Pushes.of(explanation, row, sign)
        ranks = [rank for _, rank in pushes.listed]
        reasons = []
        for player, rank in pushes.listed[: policy.at_most]:
            text = wording.text(player, value=_value(explanation, row, player), reference=references.get(player))
            reasons.append(Reason(codes[player], player, rank, ranks.count(rank) > 1, text))
        left_out = _tied_with_last(pushes, policy.at_most)
        return RowReasons(True, tuple(reasons), left_out, _notes(wording, pushes, reasons, left_out))

    found = [of_row(row) if adverse[row] else RowReasons(False) for row in range(len(explanation))]
    reference = wording.say("reference", rows=rows, digest=digest[:12])
    return ReasonCodes(tuple(found), outcome, policy.language, reference, rows, digest)


@dataclass(frozen=True, slots=True)
class _Pushes:
    """The players that certainly pushed towards the adverse outcome, strongest first, with their ranks.

    Attributes
    ----------
    ties
        For each listed player, the listed players that cannot be told from it.
    hidden
        Whether attributions were withheld from which reasons might have come.
    unsure
        Whether the margin of a large attribution was withheld, so that nothing can be said.
    """

    listed: tuple[tuple[str, int], ...]
    ties: Mapping[str, frozenset[str]]
    hidden: bool = False
    unsure: bool = False

    @classmethod
    def of(cls, explanation: Explanation, row: int, sign: int) -> _Pushes:
        release = explanation.details.get("release")
        if isinstance(release, Mapping) and "order" in release:
            return cls._of_order(release["order"][row], "+" if sign > 0 else "-")
        values = explanation.values[row]
        push, reach = sign * values, _reach(explanation, row)
        known = np.isfinite(values)
        if (known & np.isnan(reach) & (push > 0)).any():
            return cls((), {}, hidden=True, unsure=True)
        certain = [int(place) for place in np.flatnonzero(known) if push[place] > reach[place]]
        order = sorted(certain, key=lambda place: (-push[place], place))
        tied = {first: [other for other in order if abs(push[first] - push[other]) <= reach[first] + reach[other]] for first in order}
        listed: list[tuple[str, int]] = []
        leader = rank = -1
        for position, place in enumerate(order):
            if position == 0 or place not in tied[leader]:
                leader, rank = place, position + 1
            listed.append((explanation.players[place], rank))
        name = explanation.players.__getitem__
        return cls(tuple(listed), {name(one): frozenset(map(name, others)) for one, others in tied.items()}, hidden=not bool(known.all()))

    @classmethod
    def _of_order(cls, order: Sequence[Mapping[str, Any]], wanted: str) -> _Pushes:
        """From a release that gives an order and signs instead of numbers; ranks are counted anew among those with the wanted sign."""
        kept = [each for each in order if each["sign"] == wanted]
        ranks = [int(each["rank"]) for each in kept]
        listed = tuple((str(each["player"]), 1 + sum(other < rank for other in ranks)) for each, rank in zip(kept, ranks, strict=True))
        ties = {player: frozenset(other for other, same in listed if same == rank) for player, rank in listed}
        return cls(listed, ties, hidden=True)


def _reach(explanation: Explanation, row: int) -> NDArray[np.float64]:
    """The half-width within which each attribution of a row is certain; NaN where that was withheld.

    Raises
    ------
    InvalidInput
        The attributions are estimates without intervals.
    """
    values = explanation.values[row]
    noise = _NOISE * float(np.nansum(abs(values)))
    if explanation.details.get("additive", True):
        noise = max(noise, float(explanation.residual[row]))
    if explanation.errors is None:
        if not explanation.exact:
            raise InvalidInput(
                f"The '{explanation.method}' attributions are estimates without intervals, so no reason is certain.",
                hint="Use a method with intervals, such as 'permutation', or an exact one.",
            )
        return np.full(len(values), noise)
    release = explanation.details.get("release")
    errors = explanation.errors[row]
    if explanation.exact and isinstance(release, Mapping) and "step" in release:
        errors = np.where(np.isnan(errors), float(release["step"]) / 2, errors)  # the last step means: this or more
    reach: NDArray[np.float64] = np.maximum(errors, noise)
    return reach


def _tied_with_last(pushes: _Pushes, at_most: int) -> tuple[str, ...]:
    if len(pushes.listed) <= at_most:
        return ()
    last = pushes.listed[at_most - 1][0]
    return tuple(player for player, _ in pushes.listed[at_most:] if player in pushes.ties[last])


def _notes(wording: Wording, pushes: _Pushes, reasons: Sequence[Reason], left_out: Sequence[str]) -> tuple[str, ...]:
    if not reasons:
        return (wording.say("beyond" if pushes.unsure else "none released" if pushes.hidden else "none"),)
    notes = []
    if any(reason.tied for reason in reasons):
        notes.append(wording.say("tied"))
    if left_out:
        notes.append(wording.say("left out", features=", ".join(readable(player) for player in left_out)))
    if pushes.hidden:
        notes.append(wording.say("withheld"))
    return tuple(notes)


# -- who decided what ---------------------------------------------------------------------------------------------------------------------


def _adverse(explanation: Explanation, policy: ReasonPolicy, decisions: Sequence[Any] | None) -> tuple[NDArray[np.bool_], int, str]:
    """Which rows have the adverse decision, which sign of an attribution points to it, and the outcome in words."""
    if explanation.output == "value":
        if policy.below is None:
            raise UsageError("This model predicts numbers, so the policy must say which are adverse.", hint="Set explain.reasons.below.")
        return explanation.predicted < policy.below, -1, f"below {policy.below:g}"
    label = explanation.output.partition(" of ")[2]
    classes = explanation.details.get("classes")
    if not classes or label not in classes:
        raise InvalidInput(f"The '{explanation.method}' explanation does not say between which classes the model decides, so it gives no reasons.")
    adverse = classes[0] if policy.adverse is None else policy.adverse
    if adverse not in classes:
        raise UsageError(f"There is no class '{adverse}' to be adverse.{nearest(adverse, classes)}", hint=f"Classes: {', '.join(classes)}.")
    if label != adverse and len(classes) > 2:
        raise UsageError(f"The explanation is of '{label}', and '{adverse}' is one of several others.", hint=f"Explain with label='{adverse}'.")
    decided = _decided(explanation, label, classes) if decisions is None else _given(decisions, classes, len(explanation))
    return np.array([each == adverse for each in decided], dtype=bool), 1 if label == adverse else -1, adverse


def _decided(explanation: Explanation, label: str, classes: Sequence[str]) -> list[str]:
    kind = explanation.output.partition(" of ")[0]
    if len(classes) != 2 or explanation.details.get("decision") != "argmax" or kind not in ("probability", "log-odds"):
        raise UsageError("The explanation does not tell how each row was decided.", hint="Pass decisions=model.predict(rows).values.")
    other = classes[1] if label == classes[0] else classes[0]
    edge = 0.5 if kind == "probability" else 0.0
    return [label if score > edge else other if score < edge else classes[0] for score in explanation.predicted]  # as argmax decides a tie


def _given(decisions: Sequence[Any], classes: Sequence[str], rows: int) -> list[str]:
    decided = [str(each) for each in decisions]
    if len(decided) != rows:
        raise UsageError(f"There are {len(decided)} decisions for {rows} explained rows.")
    if not set(decided) <= set(classes):
        raise UsageError("A decision is none of the model's classes.", hint=f"Classes: {', '.join(classes)}.")
    return decided


# -- values in sentences ------------------------------------------------------------------------------------------------------------------


def _check_values(explanation: Explanation, policy: ReasonPolicy, names: Mapping[str, frozenset[str]]) -> None:
    """Refuse sentences that would show what a mask hides, and those whose values are not there."""
    showing = [player for player, places in names.items() if places & {"value", "reference"}]
    masked, groups = explanation.details.get("masked"), explanation.details.get("groups") or {}
    release = explanation.details.get("release")
    for player in showing:
        if player in groups or player == MASKED:
            raise refused(policy, player, "shows a value, and a group of fields has none of its own", "Write the sentence without values.")
        if masked is None or player in masked:
            raise refused(policy, player, "shows the value of a field that is masked, or may be", "Write the sentence without values.")
    if any("value" in places for places in names.values()):
        withheld = isinstance(release, Mapping) and release.get("mode") != "full"
        if withheld or len(explanation.inputs) != len(explanation):
            raise UsageError("A wording shows {value}, and the explained values are not part of this explanation.", hint="Write it without values.")


def _value(explanation: Explanation, row: int, player: str) -> Any:
    return explanation.inputs[row][explanation.players.index(player)] if len(explanation.inputs) == len(explanation) else None


def _references(explanation: Explanation, background: Dataset | None, players: Sequence[str], digest: str) -> dict[str, Any]:
    """The reference point's value of each player whose sentence shows it."""
    if not players:
        return {}
    if background is None:
        raise UsageError(
            f"The wording for '{players[0]}' shows {{reference}}.", hint="Pass background=, the rows that the explanation compared with."
        )
    if background.fingerprint != digest:
        raise UsageError(
            "These are not the reference rows that the explanation compared with.",
            hint="Pass the same background= here and to explain, at most 100 rows of the model's inputs; a workspace keeps them: background(model).",
        )
    return {player: _typical(background, player) for player in players}


def _typical(background: Dataset, field: str) -> Any:
    column = background.column(field)
    known = column.drop_null()
    if not len(known):
        return None
    if background.schema[field].type is FieldType.NUMERIC:
        return known.take(pc.sort_indices(known).slice((len(known) - 1) // 2, 1))[0].as_py()  # the lower median is a value that occurs
    counts = known.combine_chunks().value_counts()
    return counts.field("values")[int(np.argmax(counts.field("counts")))].as_py()


def _codes(players: Sequence[str]) -> dict[str, str]:
    """A code for each player: its name in capitals, letters and digits only."""
    codes: dict[str, str] = {}
    for player in players:
        code = re.sub(r"\W+", "_", player).strip("_").upper() or "FEATURE"
        taken = set(codes.values())
        codes[player] = next(each for number in range(1, len(players) + 1) if (each := code if number == 1 else f"{code}_{number}") not in taken)
    return codes
