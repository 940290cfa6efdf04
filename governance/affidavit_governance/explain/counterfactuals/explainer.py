"""The explainer `counterfactual`: for each row the nearest plausible changes that flip the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Counterfactuals
from affidavit.interfaces.model import Model
from affidavit.interfaces.schema import Role
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import Case, Options
from affidavit_governance.explain.counterfactuals.decision import Decisions, Wanted
from affidavit_governance.explain.counterfactuals.distance import Density
from affidavit_governance.explain.counterfactuals.reference import Reference
from affidavit_governance.explain.counterfactuals.search import Found, Search
from affidavit_governance.explain.counterfactuals.space import SPARSITY, Candidates, Rules, Space
from affidavit_governance.explain.players.grouping import is_masked

REFERENCE_ROWS = 1000
"""Reference rows used at most: the density of the data needs more of them than a mean, and their distances grow with the square."""

DISTANCE = f"changed fields: {SPARSITY:g} each, plus |then - now| / (1.4826 MAD of the background) of a number, 1 of a category"
"""The distance in words, for the record."""

_OWN: dict[str, Any] = {"wanted": None, "immutable": (), "direction": {}, "at_most": None, "alternatives": 1, "min_plausibility": 0.05}
_DIRECTIONS = {"increase": 1, "decrease": -1}
_SMALLEST = 256


class Counterfactual(Explainer):
    """Black-box search for the nearest changes; needs nothing of a model but its decisions.

    Options: ``wanted`` (a class, default any other than the row's own; for numbers ``[low, high]``), ``immutable`` (fields), ``direction``
    (``"increase"`` or ``"decrease"`` by field), ``at_most`` (changed fields), ``alternatives``, ``min_plausibility`` (share of the reference
    rows with the wanted decision that must be at least as far from the others as an answer is from them), ``budget``, ``seconds``,
    ``groups``, ``seed``, ``report``.

    Protected and masked fields, texts and tensors never change. Fields of one group take over the values of one reference row together, or
    stay.
    """

    type = "counterfactual"
    scope = "changes"
    accepts = frozenset({"groups", "model_digest", "immutable"})
    default_budget = 2**12

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Counterfactuals:
        read = Options.read(self.type, options, sampled=True, own=_OWN)
        if read.label is not None:
            raise UsageError(f"Explainer '{self.type}' takes no label.", hint="Name the class to reach as wanted=.")
        if read.width is not None:
            raise UsageError(f"Explainer '{self.type}' has no intervals, so no width can be asked for.", hint="Give budget= or seconds=.")
        wanted = Wanted.read(read.own["wanted"], model)
        case = Case.open(model, data, background, read, limit=REFERENCE_ROWS)
        fixed = _fixed(case, data, read.own["immutable"])
        reference = Reference(case.background, case.data)
        rules = _rules(case, reference, fixed, read)
        decisions = Decisions(model)
        rows = _Rows(case, reference, rules, wanted, decisions, read)
        found = [rows.explain(row, self.default_budget) for row in range(len(case.data))]
        return Counterfactuals(
            method=self.type,
            wanted=wanted.text,
            changes=[row.changes for row in found],
            distances=[row.distances for row in found],
            predicted=[row.predicted for row in found],
            plausibility=[row.plausibility for row in found],
            details={
                "output": decisions.output,
                "distance": DISTANCE,
                "min_plausibility": read.own["min_plausibility"],
                "at_most": read.own["at_most"],
                "alternatives": read.own["alternatives"],
                "direction": dict(read.own["direction"]),
                "fixed": fixed,
                "groups": {name: list(fields) for name, fields in case.grouping.members.items() if len(fields) > 1},
                "background": case.background.fingerprint,
                "background_rows": len(case.background),
                "data": case.data.fingerprint,
                "seed": read.seed,
                "model_rows": decisions.rows,
                "rows_spent": [row.spent for row in found],
                "nearest_on_grid": [row.nearest for row in found],
                "not_found": [row.reason for row in found],
            },
        )


class _Row:
    """What one row's search gave, in the form of the record."""

    def __init__(self, reason: str | None, spent: int, nearest: bool = False) -> None:
        self.changes: list[dict[str, tuple[Any, Any]]] = []
        self.distances: list[float] = []
        self.predicted: list[float] = []
        self.plausibility: list[float] = []
        self.reason, self.spent, self.nearest = reason, spent, nearest


class _Rows:
    """Explains the rows of a case one by one; what the rows share is computed once, and depends on none of them."""

    def __init__(self, case: Case, reference: Reference, rules: Rules, wanted: Wanted, decisions: Decisions, options: Options) -> None:
        self._case, self._reference, self._rules = case, reference, rules
        self._wanted, self._decisions, self._options = wanted, decisions, options
        self._decided = decisions(case.background).decided
        self._densities: dict[Any, Density] = {}

    def explain(self, row: int, default_budget: int) -> _Row:
        space = Space(self._reference, self._case.data, row, self._rules)
        own = self._decisions(space.own).decided[0]
        density = self._density(own)
        budget = self._options.row_budget(row, default_budget)
        if self._wanted.met(np.array([own]), own)[0]:
            given = _Row("the decision is the wanted one already", budget.rows)
        elif not density.rows:
            given = _Row("no reference row has the wanted decision", budget.rows)
        else:
            found, spent = budget.spend(_SMALLEST, lambda limit: self._search(space, own, density, limit))
            given = self._verified(space, own, found, spent)
        self._options.report(Progress(row + 1, len(self._case.data), "explaining"))
        return given

    def _search(self, space: Space, own: Any, density: Density, budget: int) -> Found:
        def judge(candidates: Candidates) -> tuple[NDArray[np.bool_], NDArray[np.float64] | None]:
            answers = self._decisions(space.dataset(candidates))
            return self._wanted.met(answers.decided, own), self._wanted.progress(answers, own)

        donors = space.donors()[self._donors(own)]
        alternatives = int(self._options.own["alternatives"])
        left = max(0, budget - 1 - alternatives)  # the row itself, and the answers once more
        search = Search(space, judge, density, donors, budget=left, least=float(self._options.own["min_plausibility"]))
        return search.run(alternatives)

    def _verified(self, space: Space, own: Any, found: Found, spent: int) -> _Row:
        """The answers that the model confirms when it is asked for them anew."""
        given = _Row(found.reason, spent, found.nearest)
        if not found.answers:
            return given
        candidates = np.stack([answer.candidate for answer in found.answers])
        answers = self._decisions(space.dataset(candidates))
        for place in np.flatnonzero(self._wanted.met(answers.decided, own)):
            given.changes.append(space.changes(candidates[place]))
            given.distances.append(found.answers[place].distance)
            given.predicted.append(float(answers.score[place]))
            given.plausibility.append(found.answers[place].plausibility)
        if not given.changes:
            given.reason, given.nearest = "the model did not confirm the changes that were found", False
        return given

    def _density(self, own: Any) -> Density:
        """The reference rows with the decision that a row decided `own` wants."""
        key = own if self._wanted.label is None and not self._wanted.numbers else None
        if key not in self._densities:
            self._densities[key] = Density(self._reference.background[self._donors(own)], self._reference.scales)
        return self._densities[key]

    def _donors(self, own: Any) -> NDArray[np.bool_]:
        return self._wanted.met(self._decided, own)


def _fixed(case: Case, data: Dataset, immutable: Any) -> dict[str, str]:
    """The fields that never change, each with the reason.

    Raises
    ------
    UsageError
        `immutable` names what is no column.
    """
    if isinstance(immutable, str) or not isinstance(immutable, Sequence) or not all(isinstance(name, str) for name in immutable):
        raise UsageError("Option 'immutable' of explainer 'counterfactual' must be a list of fields.")
    for name in immutable:
        if name not in case.data.schema and name not in data.schema:
            raise UsageError(f"'immutable' names '{name}', which is no column.{nearest(name, case.data.schema.names)}", hint=_inputs(case))
    fixed: dict[str, str] = {}
    for field in case.data.schema:
        trained, given = case.score.model.fitted.inputs[field.name], data.schema[field.name]
        if Role.PROTECTED in (trained.role, given.role):
            fixed[field.name] = "protected"
        elif is_masked(trained) or is_masked(given):
            fixed[field.name] = "masked"
        elif field.name in immutable:
            fixed[field.name] = "immutable"
        elif field.type.value in ("text", "tensor"):
            fixed[field.name] = f"a {field.type}"
    for name, members in case.grouping.members.items():
        if any(member in fixed for member in members):
            fixed.update({member: f"in the group '{name}' with a fixed field" for member in members if member not in fixed})
    return fixed


def _rules(case: Case, reference: Reference, fixed: Mapping[str, str], options: Options) -> Rules:
    own = options.own
    units = tuple(members for members in case.grouping.members.values() if not any(member in fixed for member in members))
    if not units:
        raise UsageError("No input of this model may change.", hint=f"Fixed: {', '.join(f'{name} ({why})' for name, why in fixed.items())}.")
    for name, least, most in (("at_most", 1, None), ("alternatives", 1, 20)):
        value = own[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most)
        if not whole and not (name == "at_most" and value is None):
            raise UsageError(f"Option '{name}' of explainer 'counterfactual' must be a whole number from {least}{f' to {most}' if most else ' up'}.")
    share = own["min_plausibility"]
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        raise UsageError("Option 'min_plausibility' of explainer 'counterfactual' must be a number between 0 and 1.")
    return Rules(units, _directions(case, reference, own["direction"]), own["at_most"] or len(reference.fields))


def _directions(case: Case, reference: Reference, given: Any) -> dict[str, int]:
    if not isinstance(given, Mapping):
        raise UsageError("Option 'direction' of explainer 'counterfactual' must be a mapping from a field to 'increase' or 'decrease'.")
    ordered = {seen.field.name for seen in reference.observed if seen.ordered}
    for name, direction in given.items():
        if name not in case.data.schema:
            raise UsageError(f"'direction' names '{name}', which is no input.{nearest(str(name), case.data.schema.names)}", hint=_inputs(case))
        if name not in ordered:
            raise UsageError(f"'direction' names '{name}', which has no order.", hint="Directions are for numbers and dates; see immutable.")
        if direction not in _DIRECTIONS:
            raise UsageError(f"The direction of '{name}' must be 'increase' or 'decrease'.")
    return {name: _DIRECTIONS[direction] for name, direction in given.items()}


def _inputs(case: Case) -> str:
    return f"Inputs: {', '.join(case.data.schema.names)}."
