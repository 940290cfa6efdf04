"""Checks that what an explainer says of a model is true, as far as that can be told without knowing its method."""

from __future__ import annotations

from typing import Any

import numpy as np

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.outputs import explained_output, relative_residual
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.explainer.records import ROUNDING
from affidavit.testing.kinds.explainer.subject import ExplainerSubject
from affidavit.testing.report import Tier

ADDS_UP = 1e-6
"""Relative residual up to which attributions add up; the policy's own bound by default."""


@check("explainer", Tier.API)
def attributions_add_up_or_say_how_far_they_follow(subject: ExplainerSubject) -> None:
    """Base and attributions add up to the model's answer; those that need not say so, and carry intervals or a local R²."""
    for record in _explanations(subject):
        additive, errors = record.details.get("additive", True), record.errors
        if record.details.get("exact") and errors is not None and errors.any():
            raise CheckFailed("the record says that its values are exact, and gives them errors.")
        if not additive and (record.details.get("exact") or (errors is None and not record.details.get("local_r2"))):
            raise CheckFailed("values that need not add up are not exact, and say how well they follow: with errors, or details['local_r2'].")
        worst = float(relative_residual(record).max(initial=0.0))
        if additive and worst > ADDS_UP:
            raise CheckFailed(f"base and attributions miss the model's answer by {worst:.2g} of its scale; {ADDS_UP:g} is the most.")


@check("explainer", Tier.API)
def what_does_nothing_is_said_to_do_nothing(subject: ExplainerSubject) -> None:
    """A field that the model ignores, or that is the same in every row, gets zero within its interval, and no change is found in it."""
    if not subject.nothing:
        raise Skip("the case brings rows of its own, of which the kit does not know what does nothing")
    if isinstance(subject.record, GlobalExplanation) and not (subject.record.importance or subject.record.curves):
        raise Skip("its rules tell of several fields at once")
    for _, record in subject.tried:
        for name in subject.nothing:
            if isinstance(record, Explanation):
                _nothing_attributed(record, name)
            elif isinstance(record, Counterfactuals):
                if any(name in row[0] for row in record.changes if row):
                    raise CheckFailed(f"a nearest change is in '{name}', which does nothing to the answer.")
            else:
                _nothing_described(record, name)


@check("explainer", Tier.API)
def the_class_that_is_asked_for_is_explained(subject: ExplainerSubject) -> None:
    """With the option `label` the record is of that class, and a class that does not exist is refused."""
    classes = subject.model.fitted.classes
    if not classes:
        raise Skip("the model of the case predicts numbers")
    if not subject.takes(label=classes[0]):
        raise Skip("it takes no option 'label'")
    for label in classes:
        record = subject.explain(label=label)
        if not record.output.endswith(f" of {label}"):
            raise CheckFailed(f"asked for the class '{label}', it explains '{record.output}'.")
        if isinstance(record, Explanation):
            own = explained_output(record.output, subject.model.predict(subject.rows))
            if own is not None and float(abs(own - record.predicted).max()) > ROUNDING * max(1.0, float(abs(own).max())):
                raise CheckFailed(f"asked for the class '{label}', 'predicted' is not the model's answer for it.")
    try:
        subject.explain(label="surely no such class")
    except (UsageError, InvalidInput):
        return
    raise CheckFailed("a class that does not exist was explained: raise UsageError.")


@check("explainer", Tier.API)
def fields_of_a_group_are_one_player(subject: ExplainerSubject) -> None:
    """Fields that the option `groups` puts together have one attribution, one importance, and change together."""
    if "groups" not in subject.value.accepts:
        raise Skip("it does not accept groups")
    fields = subject.model.fitted.inputs.names
    if len(fields) < 2:
        raise Skip("the model of the case reads a single field")
    pair = (fields[0], fields[-1])
    record = subject.explain(groups={"together": list(pair)})
    if isinstance(record, Explanation):
        if "together" not in record.players or set(pair) & set(record.players):
            raise CheckFailed("fields of one group have attributions of their own, or the group has none.")
        return
    if isinstance(record, Counterfactuals):
        _changed_together(record, subject, pair)
        return
    parts = {part for name in record.importance for part in name.split(" × ")}
    if not (record.importance or record.curves):
        raise Skip("its rules name no players")
    if set(pair) & (parts | set(record.curves)):
        raise CheckFailed("fields of one group have figures or curves of their own.")


@check("explainer", Tier.API)
def changes_that_are_given_flip_the_decision(subject: ExplainerSubject) -> None:
    """Where its changes are made, the model decides otherwise, and scores as the record says; the values before are the row's own."""
    if subject.scope != "changes":
        raise Skip("it gives no changes")
    record: Counterfactuals = subject.explain()
    rows = subject.model.fitted.inputs.names
    data = subject.model.fitted.conform(subject.rows)
    before = subject.model.predict(data)
    for place, alternatives in enumerate(record.changes):
        own = dict(zip(rows, (data.to_list(name)[place] for name in rows), strict=True))
        for changes in alternatives:
            if not changes or any(now != own[name] for name, (now, _) in changes.items()):
                raise CheckFailed("a change is empty, or does not begin at the row's own value.")
            changed = {name: [changes[name][1] if name in changes else own[name]] for name in rows}
            after = subject.model.predict(Dataset.from_rows(changed, subject.model.fitted.inputs))
            if _decision(after, 0) == _decision(before, place):
                raise CheckFailed("a change that it gives does not flip the decision: ask the model again before giving one.")


@check("explainer", Tier.QUALITY)
def estimates_carry_intervals(subject: ExplainerSubject) -> None:
    """Attributions that are not exact come with the half-width of an interval each."""
    for record in _explanations(subject):
        if not record.exact and record.errors is None:
            raise CheckFailed("its values are estimates and carry no intervals: say how sure they are.")


def _explanations(subject: ExplainerSubject) -> list[Explanation]:
    found = [record for _, record in subject.tried if isinstance(record, Explanation)]
    if not found:
        raise Skip("it gives no attributions")
    return found


def _nothing_attributed(record: Explanation, name: str) -> None:
    if not record.details.get("additive", True):
        return  # a surrogate's coefficient is of the surrogate
    for place in [place for place, player in enumerate(record.players) if player == name or player.startswith(f"{name} [")]:
        scale = np.maximum(1.0, abs(record.values).sum(axis=1))
        allowed = ADDS_UP * scale + (0.0 if record.errors is None else record.errors[:, place])
        if (abs(record.values[:, place]) > allowed).any():
            raise CheckFailed(f"'{name}' does nothing to the answer, and its attribution lies further from zero than its interval.")


def _nothing_described(record: Any, name: str) -> None:
    metric = record.importance.get(name)
    if metric is not None:
        low, high = (metric.value if end is None else end for end in (metric.low, metric.high))
        if low > ADDS_UP or high < -ADDS_UP:
            raise CheckFailed(f"'{name}' does nothing to the answer, and the interval of its importance lies apart from zero.")
    curve = record.curves.get(name, {}).get("mean", [])
    if curve and max(curve) - min(curve) > ADDS_UP:
        raise CheckFailed(f"'{name}' does nothing to the answer, and its curve is not flat.")


def _changed_together(record: Counterfactuals, subject: ExplainerSubject, pair: tuple[str, str]) -> None:
    """Values of a group come from one reference row, so that they occur together."""
    known = set(zip(*(subject.background.to_list(name) for name in pair), strict=True))
    for place, alternatives in enumerate(record.changes):
        own = {name: subject.rows.to_list(name)[place] for name in pair}
        for changes in alternatives:
            then = tuple(changes[name][1] if name in changes else own[name] for name in pair)
            if set(pair) & set(changes) and then not in known:
                raise CheckFailed("fields of one group change to values that occur together in no reference row.")


def _decision(predictions: Predictions, row: int) -> Any:
    return str(predictions.values[row]) if predictions.classes else float(predictions.values[row])
