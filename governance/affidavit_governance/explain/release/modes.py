"""What of an explanation leaves: everything, the largest attributions, steps instead of numbers, or an order without numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.explanation import Explanation
from affidavit.policy import ExplainPolicy
from affidavit_governance.explain.release.recoverable import recoverable

_CALL = ("exact", "additive", "label", "seed", "background", "background_rows", "reason", "library", "fallback", "decision", "classes", "masked")
_METHOD = ("game", "engine", "shrinkage", "covariance", "road", "precision", "steps", "values")
_PLAYERS = ("groups", "players", "grid", "fill", "cuts", "rate", "shapes", "absent", "hierarchy")
SETTINGS = (*_CALL, *_METHOD, *_PLAYERS)
"""Details that depend on no explained row; all others stay behind unless everything is released."""

_COSTS = ("rows_spent", "model_rows")
"""Details that tell nothing of a row where each cost the same."""

_TIED = 1e-9
"""Attributions closer than this, relative to the row's largest, share a rank."""


def released(explanation: Explanation, policy: ExplainPolicy, scale: Callable[[], float]) -> Explanation:
    """The explanation as the policy lets it leave, with ``details["release"]`` (docs/explanation-privacy.md).

    In every mode but ``full``, errors of withheld values, interactions, the rows' own values, a base that differs between rows, and details
    of single rows stay behind; residuals, measured before, are rounded up to one digit.

    Parameters
    ----------
    scale
        The spread of the model's answers, from the background and never from the explained rows: the last step of ``quantised``. It is asked
        for only there.
    """
    if policy.release == "full":
        return replace(explanation, details={**explanation.details, "release": {"mode": "full"}})
    if policy.release == "quantised":
        values, errors, said = _quantised(explanation, policy.levels, scale())
    elif policy.release == "top-k":
        values, errors, said = _top(explanation, policy.top_k)
    else:
        values, errors, said = _order(explanation, policy.top_k)
    secret_base = policy.release == "reason-codes" or _tells_of_rows(explanation)
    return replace(
        explanation,
        values=values,
        errors=errors,
        base=np.full(len(explanation), np.nan) if secret_base else explanation.base.copy(),
        interactions=None,
        inputs=[[None] * len(explanation.players) for _ in range(len(explanation))],
        residuals=one_digit(explanation.residual),
        details={**_settings(explanation.details), "release": {"mode": policy.release, **said}},
        signed=None,
    )


Parts = tuple[NDArray[np.float64], NDArray[np.float64] | None, dict[str, Any]]
"""Values, errors, and what is said of the release."""


def _top(explanation: Explanation, k: int) -> Parts:
    size = abs(explanation.values)
    place = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1)
    out = place >= k
    edge = np.where(out, np.inf, size).min(axis=1, keepdims=True, initial=np.inf)  # the smallest that is released bounds the others
    low, high = np.where(out, -edge, explanation.values), np.where(out, edge, explanation.values)
    errors = None if explanation.errors is None else np.where(out, np.nan, explanation.errors)
    return np.where(out, np.nan, explanation.values), errors, {"k": k, **_counts(explanation, low, high, out)}


def _quantised(explanation: Explanation, levels: int, scale: float) -> Parts:
    step = scale / levels
    level = np.clip(np.rint(explanation.values / step), -levels, levels) + 0.0  # -0.0 would tell the sign of what is within half a step of zero
    values = level * step
    low = np.where(level == -levels, -np.inf, values - step / 2)
    high = np.where(level == levels, np.inf, values + step / 2)
    half = np.zeros_like(values) if explanation.errors is None else explanation.errors
    wide = np.ceil(half / step + 0.5) * step if explanation.errors is not None else np.full_like(values, step / 2)
    errors = np.where(abs(level) == levels, np.nan, wide)  # the last step means: this or more
    counts = _counts(explanation, low, high, np.ones_like(values, dtype=bool))
    return values, errors, {"levels": levels, "step": step, **counts}


def _order(explanation: Explanation, k: int) -> Parts:
    nothing = np.full(explanation.values.shape, np.nan)
    errors = explanation.errors
    if errors is None:  # estimates without intervals have an order that nobody knows
        errors = np.full_like(explanation.values, 0.0 if explanation.exact else np.inf)
    orders = [strongest(explanation.players, values, reach, k) for values, reach in zip(explanation.values, errors, strict=True)]
    total = explanation.predicted - explanation.base
    exact = explanation.errors is None and explanation.exact
    follows = [_follows(explanation.players, order, k, float(each), exact) for order, each in zip(orders, total, strict=True)]
    said = {"k": k, "withheld": [len(explanation.players)] * len(explanation), "recoverable": follows, "order": orders}
    return nothing, None, said


def strongest(players: tuple[str, ...], values: NDArray[np.float64], errors: NDArray[np.float64], k: int) -> list[dict[str, Any]]:
    """The `k` players with the largest attributions other than zero, strongest first, each with its sign and rank.

    Those share a rank whose sizes differ from the first one's of that rank by no more than both half-widths. The sign is ``"?"`` where the
    95 % interval holds zero.
    """
    size = abs(values)
    close = _TIED * float(size.max(initial=0.0))
    found: list[dict[str, Any]] = []
    leader, rank = -1, 0
    for place in np.argsort(-size, kind="stable")[:k]:
        if size[place] <= close:
            break
        if leader < 0 or size[leader] - size[place] > max(close, errors[leader] + errors[place]):
            leader, rank = int(place), len(found) + 1
        sign = "?" if errors[place] >= size[place] else "+" if values[place] > 0 else "-"
        found.append({"player": players[place], "sign": sign, "rank": rank})
    return found


def _follows(players: tuple[str, ...], order: list[dict[str, Any]], k: int, total: float, exact: bool) -> int:
    """How many attributions follow from an order and their sum. A list with fewer than `k` players says that the others have none."""
    signs = {each["player"]: each["sign"] for each in order}
    none_left = len(order) < k or len(order) == len(players)
    balance = sum(1 if sign == "+" else -1 for sign in signs.values())
    if exact and none_left and len({each["rank"] for each in order}) == 1 and balance != 0:
        return len(players)  # one size for all that are listed, none for the rest: the sum gives that size
    rest = 0.0 if none_left else np.inf
    low = np.array([{"+": 0.0, "-": -np.inf, "?": -np.inf}.get(signs.get(player, ""), -rest) for player in players])
    high = np.array([{"+": np.inf, "-": 0.0, "?": np.inf}.get(signs.get(player, ""), rest) for player in players])
    return recoverable(low, high, np.ones(len(players), dtype=bool), total)


def _counts(explanation: Explanation, low: NDArray[np.float64], high: NDArray[np.float64], out: NDArray[np.bool_]) -> dict[str, Any]:
    total = explanation.predicted - explanation.base
    follows = [recoverable(low[row], high[row], out[row], float(total[row])) for row in range(len(explanation))]
    return {"withheld": [int(count) for count in out.sum(axis=1)], "recoverable": follows}


def _tells_of_rows(explanation: Explanation) -> bool:
    """Whether the base is a number of the row's own: a surrogate's intercept, or the answer to a blurred row."""
    varies = len(explanation) > 1 and bool(np.ptp(explanation.base) > _TIED * abs(explanation.base).max())
    return varies or not explanation.details.get("additive", True) or explanation.details.get("fill") == "blur"


def _settings(details: Mapping[str, Any]) -> dict[str, Any]:
    spent = details.get("rows_spent")
    alike = spent is None or len(set(spent)) <= 1
    kept = (*SETTINGS, *(_COSTS if alike else ()))
    return {name: details[name] for name in kept if name in details}


def one_digit(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded up to one digit."""
    digit = 10.0 ** np.floor(np.log10(np.where(numbers > 0, numbers, 1.0)))
    up: NDArray[np.float64] = np.where(numbers > 0, np.ceil(numbers / digit) * digit, 0.0)
    return up
