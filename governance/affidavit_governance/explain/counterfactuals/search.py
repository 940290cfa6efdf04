"""The search for the nearest plausible change of one row that flips the decision.

Candidates, each judged by the model's own answers, come from real rows of the wanted decision, whose differences are taken back one by one
(nearest unlike neighbours; Keane and Smyth 2020) and exchanged for nearer ones; from following the score, where the model gives one; from all
combinations of a grid of observed values in the order of their distance; and from the numbers of what was found, moved towards the row's
own. Nothing is random, and no gradient is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.counterfactuals.combinations import by_cost
from affidavit_governance.explain.counterfactuals.distance import Density
from affidavit_governance.explain.counterfactuals.space import Candidates, Space

_DONORS = 32
"""Reference rows from which a search starts."""

_BEAM = 4
"""Candidates kept at each step of taking changes back."""

_AT_ONCE = 128
"""Combinations in one call of the model."""

_SECTIONS = 15
"""Numbers tried at once between a number and the row's own; three rounds of it find one of 4,096 places."""

_SCORE_SHARE = 3
"""One of so many parts of the budget may go to following the score."""

_LEAST_COST = 1e-3
"""A change that costs less, or brings the row nearer, counts as costing this."""

_SPARE = 4
"""Sets of fields that are refined beyond those asked for: a set that is dearer on the grid may be cheaper between its points."""

_REFINING = 0.25
"""Share of the budget that is kept for refining."""

_SKIPPED = 20
"""Combinations looked at for each one asked of the model; most of the others hold a change that was found already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One candidate that flips the decision and is plausible."""

    candidate: NDArray[np.int64]
    distance: float
    plausibility: float


@dataclass(frozen=True, slots=True)
class Found:
    """What the search of one row gave.

    Attributes
    ----------
    answers
        Nearest first.
    nearest
        Whether every combination of the grid that is nearer than the first answer was tried.
    reason
        Why there is no answer; None where there is one.
    errors
        None where a larger budget would change nothing, as in an estimate; else infinity.
    """

    answers: tuple[Answer, ...]
    nearest: bool
    reason: str | None
    errors: NDArray[np.float64] | None


class Search:
    """One row's search.

    Parameters
    ----------
    model
        Says which candidates flip the decision, and how far towards that each is (None where the model gives labels only).
    density
        Of the reference rows with the wanted decision.
    donors
        Candidates with as much as may be taken over of a reference row with the wanted decision.
    budget
        Model rows.
    least
        Least plausibility of an answer.
    """

    def __init__(
        self,
        space: Space,
        model: Callable[[Candidates], tuple[NDArray[np.bool_], NDArray[np.float64] | None]],
        density: Density,
        donors: Candidates,
        *,
        budget: int,
        least: float,
    ) -> None:
        self._space = space
        self._model = model
        self._density = density
        self._donors = donors
        self._left = budget
        self._reserve = int(budget * _REFINING)
        self._least = least
        self._costs, self._places = space.options()
        options = [space.combine(((unit, option),), self._places) for unit, own in enumerate(self._places) for option in range(len(own))]
        self._singles = np.stack(options) if options else space.unchanged()[None][:0]
        self._known: dict[bytes, bool] = {}
        self._progress: dict[bytes, float] = {}
        self._good: dict[bytes, Answer] = {}
        self._flipped = self._plausible = False

    def run(self, alternatives: int) -> Found:
        """The nearest answers; each changes a set of fields that includes no nearer one's whole set."""
        self._left -= self._reserve
        self._from_rows()
        self._by_score()
        self._exchange(alternatives)
        searched, whole = self._from_grid(alternatives)
        self._left += self._reserve
        for answer in self._distinct(alternatives + _SPARE):
            self._refine(answer)
        answers = tuple(self._distinct(alternatives))
        nearest = bool(answers) and searched >= answers[0].distance
        finished = whole or (nearest and len(answers) == alternatives)
        return Found(answers, nearest, None if answers else self._why_not(whole), None if finished else np.array([np.inf]))

    def _why_not(self, whole: bool) -> str:
        if self._plausible:
            return "every plausible change found that flips the decision needs more fields than allowed"
        if self._flipped:
            return "changes that flip the decision were found, but none that is plausible under the data"
        return "no combination of allowed changes flips the decision" if whole else "no change was found within the budget"

    # -- asking -------------------------------------------------------------------------------------------------------------------------

    def _judge(self, candidates: Candidates) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which candidates flip the decision, and which of those are plausible too; good ones are kept."""
        flipping = self._ask(candidates)
        plausibility = np.zeros(len(candidates))
        if flipping.any():
            self._flipped = True
            plausibility[flipping] = self._density.plausibility(self._space.coordinates(candidates[flipping]))
        plausible = flipping & (plausibility >= self._least)
        self._plausible |= bool(plausible.any())
        good = plausible & (self._space.changed(candidates) <= self._space.at_most)
        cost = self._space.cost(candidates)
        for place in np.flatnonzero(good):
            self._good.setdefault(candidates[place].tobytes(), Answer(candidates[place], float(cost[place]), float(plausibility[place])))
        return flipping, plausible

    def _ask(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which candidates flip the decision; those that the budget does not reach count as not flipping."""
        keys = [candidate.tobytes() for candidate in candidates]
        places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._known}
        new = sorted(places.values())[: max(0, self._left)]
        if new:
            self._left -= len(new)
            flips, progress = self._model(candidates[new])
            for number, place in enumerate(new):
                self._known[keys[place]] = bool(flips[number])
                if progress is not None:
                    self._progress[keys[place]] = float(progress[number])
        return np.array([self._known.get(key, False) for key in keys], dtype=bool)

    # -- from rows of the wanted decision -------------------------------------------------------------------------------------------------

    def _from_rows(self) -> None:
        donors = np.unique(self._donors, axis=0)
        donors = self._nearest(donors[(donors != 0).any(axis=1)], _DONORS)
        if not len(donors):
            return
        self._take_back(donors)

    def _take_back(self, candidates: Candidates) -> None:
        """Take changes back one by one, as long as the decision stays flipped; plausible candidates go before others."""
        flipping, plausible = self._judge(candidates)
        beam = self._nearest(candidates[plausible] if plausible.any() else candidates[flipping], _BEAM)
        while len(beam) and self._left > 0:
            fewer = np.unique(np.concatenate([self._taken_back(candidate) for candidate in beam]), axis=0)
            flipping, plausible = self._judge(fewer)
            beam = self._nearest(fewer[plausible] if plausible.any() else fewer[flipping], _BEAM)

    def _taken_back(self, candidate: NDArray[np.int64]) -> Candidates:
        """The candidate with one unit less each; none where only one is changed."""
        units = [unit for unit in self._space.units if candidate[unit].any()]
        fewer = np.repeat(candidate[None], len(units), axis=0)
        for place, unit in enumerate(units):
            fewer[place, unit] = 0
        kept: Candidates = fewer[(fewer != 0).any(axis=1)]
        return kept

    def _nearest(self, candidates: Candidates, count: int) -> Candidates:
        nearest: Candidates = candidates[np.argsort(self._space.cost(candidates), kind="stable")[:count]]
        return nearest

    def _by_score(self) -> None:
        """Add the change that brings the score farthest for its distance, until the decision flips: for models that give numbers."""
        current, least = self._space.unchanged(), self._left - self._left // _SCORE_SHARE
        self._ask(current[None])
        if current.tobytes() not in self._progress or not len(self._singles):
            return
        while self._left > least:
            tried = np.where(self._singles != 0, self._singles, current)
            tried = tried[(self._space.changed(tried) <= self._space.at_most) & (tried != current).any(axis=1)]
            if self._judge(tried)[0].any():
                self._take_back(tried)
                return
            reached = np.array([self._progress.get(candidate.tobytes(), -np.inf) for candidate in tried])
            gain = reached - self._progress[current.tobytes()]
            rate = gain / np.maximum(self._space.cost(tried) - self._space.cost(current[None]), _LEAST_COST)
            if not (gain > 0).any():
                return
            current = tried[int(np.argmax(rate))]

    def _exchange(self, alternatives: int) -> None:
        """Put one option in the place of one change, as long as that brings the nearest answers nearer."""
        done: set[bytes] = set()
        left = self._left // 2
        while left > 0 and len(self._singles):
            open_answers = [answer for answer in self._distinct(alternatives) if answer.candidate.tobytes() not in done]
            if not open_answers:
                return
            answer = open_answers[0]
            done.add(answer.candidate.tobytes())
            before = self._left
            fewer = np.concatenate([self._taken_back(answer.candidate), self._space.unchanged()[None]])
            for base in fewer:
                tried = np.where(self._singles != 0, self._singles, base)
                tried = tried[self._space.cost(tried) < answer.distance - 1e-12]
                if len(tried):
                    self._judge(self._nearest(tried, _AT_ONCE))
            left -= before - self._left

    # -- from the grid ----------------------------------------------------------------------------------------------------------------------

    def _from_grid(self, alternatives: int) -> tuple[float, bool]:
        """Try combinations in the order of distance; give the distance up to which all were tried, and whether that was all there are."""
        combinations = by_cost(self._costs, self._space.at_most)
        searched, looked, limit = 0.0, 0, _SKIPPED * max(1, self._left)
        while True:
            bound = self._bound(alternatives)
            sets = [frozenset(np.flatnonzero(answer.candidate)) for answer in self._distinct(alternatives)]
            chunk: list[NDArray[np.int64]] = []
            reached, over = searched, False
            while len(chunk) < min(_AT_ONCE, self._left):
                following = next(combinations, None)
                looked += 1
                if following is None or following[0] >= bound:
                    over = True
                    break
                reached = following[0]
                candidate = self._space.combine(following[1], self._places)
                changed = frozenset(np.flatnonzero(candidate))
                if len(changed) <= self._space.at_most and not any(known <= changed for known in sets):
                    chunk.append(candidate)
                if looked > limit:
                    break
            if chunk:
                self._judge(np.stack(chunk))
            searched = reached
            if over:
                return (bound, following is None)
            if self._left <= 0 or looked > limit:
                return searched, False

    def _bound(self, alternatives: int) -> float:
        """The distance beyond which nothing is of use: the last answer's, once there are as many as asked for."""
        found = self._distinct(alternatives)
        return found[-1].distance if len(found) == alternatives else np.inf

    def _distinct(self, count: int) -> list[Answer]:
        """The nearest good candidates, none of which changes all the fields of a nearer one."""
        chosen: list[Answer] = []
        sets: list[frozenset[int]] = []
        for answer in sorted(self._good.values(), key=lambda answer: (answer.distance, answer.candidate.tolist())):
            changed = frozenset(np.flatnonzero(answer.candidate).tolist())
            if not any(known <= changed for known in sets):
                chosen.append(answer)
                sets.append(changed)
                if len(chosen) == count:
                    break
        return chosen

    # -- between the grid's points ----------------------------------------------------------------------------------------------------------

    def _refine(self, answer: Answer) -> None:
        """Bring each changed number towards the row's own as far as the decision stays flipped and the row plausible."""
        candidate = answer.candidate
        for place in self._space.movable(candidate):
            near, closed = self._space.nearest_number(place), True
            while self._left > 0:
                positions = self._space.between(place, near, self._space.number(place, int(candidate[place])), _SECTIONS, closed=closed)
                if not positions:
                    break
                tried = np.repeat(candidate[None], len(positions), axis=0)
                tried[:, place] = positions
                good = np.flatnonzero(self._judge(tried)[1])
                closed = False
                if len(good):
                    candidate = tried[good[0]]
                if not len(good) or good[0] > 0:
                    near = self._space.number(place, positions[good[0] - 1 if len(good) else -1])
