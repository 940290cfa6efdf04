"""What an explainer gave, checked before anything else looks at it: whoever made it, it is whole, plain, and about this model and these rows.

Code that runs in the process is trusted not to attack it (docs/threat-model.md), so these checks find mistakes and false claims, each with the
name of the explainer that made them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.model import Metric, Predictions
from affidavit.interfaces.outputs import explained_output
from affidavit_governance.audit.dsse import canonical_json
from affidavit_governance.explain.players.grouping import MASKED, Grouping
from affidavit_governance.explain.records.signed import plain

DETAILS_BYTES = 2**20
"""Details may be this long as JSON, and `ROW_BYTES` more for each row: they stand in the record, and partly in the ledger."""

ROW_BYTES = 2**16

_SAME_ANSWER = 1e-4
"""How far two answers of one float32 model may lie apart, relative to their size, when its rows stand in batches of other sizes."""

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "exact": (bool, "true or false"),
    "additive": (bool, "true or false"),
    "seed": (int, "a whole number"),
    "background": (str, "a digest"),
    "fallback": (str, "a sentence"),
    "groups": (Mapping, "a mapping from a player to its fields"),
}
"""Details that others read."""


def whole_explanation(found: Explanation, *, method: str, predictions: Predictions, grouping: Grouping) -> Explanation:
    """The attributions as they may be used: arrays of float64 of their own, details in plain JSON, residuals left to be computed anew.

    Parameters
    ----------
    method
        The registered name of the explainer.
    predictions
        What the model answers for the explained rows.
    grouping
        The players that the model's inputs, its masked fields and the policy's groups make.

    Raises
    ------
    PluginError
        Rows, players or numbers are missing or do not fit, `predicted` is not what the model answers, or the details contradict each other.
    """
    details = _details(found.details, method, len(predictions))
    players = _players(found.players, method, grouping)
    rows = len(predictions)
    shape = (rows, len(players))
    values = _numbers(found.values, "values", shape, method)
    predicted = _numbers(found.predicted, "predicted", (rows,), method)
    base = _numbers(found.base, "base", (rows,), method)
    errors = None if found.errors is None else _half_widths(found.errors, shape, method)
    interactions = None if found.interactions is None else _numbers(found.interactions, "interactions", (*shape, len(players)), method)
    _check_answers(found.output, predicted, predictions, method)
    details = {"exact": errors is None, "additive": True, **details}
    _check_claims(details, errors, rows, method)
    return Explanation(
        method=_maker(found.method, method, details),
        output=found.output,
        players=players,
        values=values,
        base=base,
        predicted=predicted,
        inputs=_inputs(found.inputs, shape, method),
        errors=errors,
        interactions=interactions,
        details=details,
    )


def whole_description(found: GlobalExplanation, *, method: str, rows: int) -> GlobalExplanation:
    """A description of the model with details in plain JSON.

    Raises
    ------
    PluginError
        It says to rest on more rows than there were, or holds a figure that is no finite number.
    """
    details = _details(found.details, method, rows)
    if isinstance(found.rows, bool) or not isinstance(found.rows, int) or not 0 < found.rows <= rows:
        raise PluginError(f"Explainer '{method}' says to rest on other rows than the {rows} that it got.")
    for name, metric in (*found.importance.items(), *found.fidelity.items()):
        if not isinstance(metric, Metric) or not math.isfinite(metric.value):
            raise PluginError(f"Explainer '{method}' gave a figure of '{name}' that is no finite number.")
    return replace(found, method=method, details=details)


def whole_changes(found: Counterfactuals, *, method: str, data: Dataset, inputs: Collection[str], fixed: Collection[str]) -> Counterfactuals:
    """Changes with details in plain JSON.

    Parameters
    ----------
    inputs, fixed
        The model's input fields, and those of them that may not change.

    Raises
    ------
    PluginError
        Rows or figures are missing, or what may not change does.
    """
    rows = len(data)
    details = _details(found.details, method, rows)
    alternatives = [len(row) for row in found.changes]
    columns = [found.distances, found.predicted, *([found.plausibility] if found.plausibility else [])]
    if len(alternatives) != rows or any([len(row) for row in column] != alternatives for column in columns):
        raise PluginError(f"Explainer '{method}' did not give each of the {rows} rows its changes, with one distance and one answer for each.")
    for field in {name for row in found.changes for alternative in row for name in alternative}:
        if field not in inputs:
            raise PluginError(f"Explainer '{method}' changes a field that is no input of this model.")
        if field in fixed:
            raise PluginError(f"Explainer '{method}' changes '{field}', which may not change: it is immutable, protected or masked.")
    return replace(found, method=method, details=details)


def unrecordable(options: Mapping[str, Any]) -> list[str]:
    """The names of options that no record can hold, because they are no JSON values."""
    return [name for name, value in options.items() if _json(value) is None]


# -- details ------------------------------------------------------------------------------------------------------------------------------


def _details(details: object, method: str, rows: int) -> dict[str, Any]:
    if not isinstance(details, Mapping):
        raise PluginError(f"Explainer '{method}' gave details that are no mapping.")
    content, most = _json(details), DETAILS_BYTES + ROW_BYTES * rows
    if content is None:
        named = [name for name, value in details.items() if isinstance(name, str) and _json(value) is None]
        shown = f"details['{named[0]}']" if named else "details"
        raise PluginError(f"Explainer '{method}' gave {shown} that JSON cannot hold.", hint="Give numbers, texts, lists and mappings.")
    if len(content) > most:
        raise PluginError(f"Explainer '{method}' gave details of {len(content)} bytes; {most} are the most for {rows} rows.")
    found: dict[str, Any] = plain(details)
    for name, (kind, what) in _KINDS.items():
        if name in found and (not isinstance(found[name], kind) or (kind is int and isinstance(found[name], bool))):
            raise PluginError(f"Explainer '{method}' gave details['{name}'] that is not {what}.")
    spent = found.get("rows_spent")
    if spent is not None and not (isinstance(spent, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in spent)):
        raise PluginError(f"Explainer '{method}' gave details['rows_spent'] that is no list of whole numbers.")
    return found


def _json(value: Any) -> bytes | None:
    """`value` as JSON; None where it has no such form."""
    try:
        return canonical_json(plain(value))
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        return None


def _check_claims(details: Mapping[str, Any], errors: NDArray[np.float64] | None, rows: int, method: str) -> None:
    """What an explanation says of itself must hold together: whoever need not add up must say in another way how sure he is."""
    fit = details.get("local_r2")
    numbers = isinstance(fit, list) and len(fit) == rows and all(each is None or (_is_number(each) and each <= 1 + 1e-9) for each in fit)
    if fit is not None and not numbers:
        raise PluginError(f"Explainer '{method}' gave details['local_r2'] that is not one number, or null, for each row.")
    if details["exact"] and errors is not None and errors.any():
        raise PluginError(f"Explainer '{method}' says that its values are exact, and gives them errors.")
    if details["exact"] and not details["additive"]:
        raise PluginError(f"Explainer '{method}' says that its values are exact and need not add up to the model's answer: exact values do.")
    if not details["additive"] and errors is None and (fit is None or None in fit):
        raise PluginError(
            f"Explainer '{method}' says that its values need not add up to the model's answer, and not how well they follow it.",
            hint="Give intervals (errors), or details['local_r2'] for each row.",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# -- players and numbers ------------------------------------------------------------------------------------------------------------------


def _maker(recorded: object, method: str, details: Mapping[str, Any]) -> str:
    """Who made the values: the explainer itself, or the one that it says to have fallen back to."""
    return recorded if isinstance(recorded, str) and details.get("fallback") else method


def _players(players: object, method: str, grouping: Grouping) -> tuple[str, ...]:
    """Names that are players of this model, or parts of them; a name of any other kind could tell masked fields or values apart."""
    named = isinstance(players, (tuple, list)) and all(isinstance(player, str) for player in players)
    if not named or len(set(players)) != len(players):  # type: ignore[call-overload,arg-type]  # a tuple or list, by the line above
        raise PluginError(f"Explainer '{method}' gave players that are not names, each once.")
    alone = {fields[0] for player, fields in grouping.members.items() if player in fields and len(fields) == 1}
    for player in players:  # type: ignore[attr-defined]  # as above
        part = re.fullmatch(r"(.*) \[[0-9]+(?:, ?[0-9]+)*\]", player, flags=re.DOTALL)
        if player in grouping.members or (part is not None and part[1] in alone):
            continue
        apart = next((name for name, fields in grouping.members.items() if player in fields or (part is not None and part[1] in fields)), None)
        if apart is not None:
            others = "masked fields" if apart == MASKED else f"fields of the player '{apart}'"
            what = f"tells '{player}' apart from the other {others}"
        else:
            what = "names a player that is no input of this model"  # not which: a name that is none may hold a value
        raise PluginError(f"Explainer '{method}' {what}.", hint="An explainer that takes the option 'groups' gets the players from governance.")
    return tuple(players)  # type: ignore[arg-type]  # as above


def _numbers(given: Any, name: str, shape: tuple[int, ...], method: str, *, finite: bool = True) -> NDArray[np.float64]:
    try:
        array = np.array(given, dtype=np.float64) if not np.iscomplexobj(given) else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise PluginError(f"Explainer '{method}' gave {name} that are no numbers.")
    if array.shape != shape:
        raise PluginError(f"Explainer '{method}' gave {name} of shape {array.shape}; {shape} was due.")
    if finite and not np.isfinite(array).all():
        raise PluginError(f"Explainer '{method}' gave {name} that are not finite numbers.")
    return array


def _half_widths(given: object, shape: tuple[int, ...], method: str) -> NDArray[np.float64]:
    """Errors may be infinite, where nothing is known, and neither negative nor absent."""
    errors = _numbers(given, "errors", shape, method, finite=False)
    if not (errors >= 0).all():
        raise PluginError(f"Explainer '{method}' gave errors that are no half-widths: numbers from zero up.")
    return errors


def _inputs(given: object, shape: tuple[int, int], method: str) -> list[list[Any]]:
    rows = isinstance(given, (list, tuple)) and all(isinstance(row, (list, tuple)) and len(row) == shape[1] for row in given)
    if not rows or len(given) not in (0, shape[0]):  # type: ignore[arg-type]  # a list, by the line above
        raise PluginError(f"Explainer '{method}' gave inputs that are not one list for each row, with one entry for each player.")
    return [list(row) for row in given]  # type: ignore[attr-defined]  # as above


def _check_answers(output: object, predicted: NDArray[np.float64], predictions: Predictions, method: str) -> None:
    own = explained_output(output, predictions) if isinstance(output, str) else None
    if own is None:
        what = f"'{output}'" if isinstance(output, str) else "something"
        raise PluginError(f"Explainer '{method}' explains {what}, which this model does not answer.")
    if (abs(own - predicted) > _SAME_ANSWER * np.maximum(1.0, abs(own))).any():
        raise PluginError(f"Explainer '{method}' recorded answers that the model does not give.")
