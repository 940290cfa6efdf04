"""Checks of an explainer as such: what `explain` and its record promise."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from affidavit.artifacts import saved_in_memory
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.schema import Schema
from affidavit.interfaces.training import Progress
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.explainer.records import ROUNDING, SCOPES, difference
from affidavit.testing.kinds.explainer.subject import AMPLE, SMALL, ExplainerSubject
from affidavit.testing.kinds.model.subject import writable
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

ACCEPTS = {"groups": {}, "model_digest": "", "immutable": ()}
"""What governance may add to the options, with values that change nothing."""


class Cancelled(Exception):
    """What a caller raises from a progress report to cancel."""


@check("explainer", Tier.API)
def explainer_is_what_it_registered(subject: ExplainerSubject) -> None:
    """The class is an `Explainer`, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Explainer)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.Explainer.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")


@check("explainer", Tier.API)
def its_scope_and_what_it_accepts_are_known(subject: ExplainerSubject) -> None:
    """`scope` is rows, model or changes, and it takes each option that `accepts` lets governance add."""
    if subject.value.scope not in SCOPES:
        raise CheckFailed(f"its scope is '{subject.value.scope}': it must be one of {', '.join(SCOPES)}.")
    accepts = subject.value.accepts
    unknown = sorted(set(accepts) - set(ACCEPTS))
    if unknown:
        raise CheckFailed(f"it accepts '{unknown[0]}', which governance never adds: {', '.join(ACCEPTS)} are what there is.")
    refused = [name for name in sorted(accepts) if not subject.takes(**{name: ACCEPTS[name]})]
    if refused:
        raise CheckFailed(f"it says that it accepts '{refused[0]}', and refuses it.")


@check("explainer", Tier.API)
def it_gives_a_whole_record_of_its_scope(subject: ExplainerSubject) -> None:
    """The record is of the explainer's scope and name, about these rows and this model's inputs and answers, in finite numbers."""
    record = subject.record
    kind, whole = SCOPES[subject.scope]
    if not isinstance(record, kind):
        raise CheckFailed(f"it gave {type(record).__name__}; an explainer of scope '{subject.scope}' gives {kind.__name__}.")
    if record.method != subject.name and not record.details.get("fallback"):
        raise CheckFailed(f"the record's method is '{record.method}', not '{subject.name}', and details['fallback'] does not say why.")
    whole(record, subject)


@check("explainer", Tier.API)
def the_same_seed_gives_the_same_explanation(subject: ExplainerSubject) -> None:
    """Two calls with the same rows and seed give the same numbers."""
    for options, first in subject.tried:
        apart = difference(first, subject.explain(**options))
        if apart > ROUNDING:
            raise CheckFailed(f"two calls with the same seed differ by {apart:.2g}: draw everything random from the option seed.")


@check("explainer", Tier.API)
def a_row_alone_is_explained_as_in_a_batch(subject: ExplainerSubject) -> None:
    """A row's explanation depends neither on its neighbours nor on their order."""
    if subject.scope == "model":
        raise Skip("it describes the model over all rows, so no row stands alone")
    rows = subject.rows
    order = np.arange(len(rows))[::-1]
    for options, found in subject.tried:
        if difference(found, subject.explain(**options)) > ROUNDING:
            raise Skip("two calls with the same rows differ, which another check tells of")
        turned = subject.explain(rows.take(order), **options)
        if difference(found, turned, order) > ROUNDING:
            raise CheckFailed("rows in another order are explained otherwise: let nothing random depend on a row's place.")
        if difference(found, subject.explain(rows.take([1]), **options), np.array([1])) > ROUNDING:
            raise CheckFailed("a row alone is explained otherwise than in a batch: let nothing of a row depend on its neighbours.")


@check("explainer", Tier.API)
def explaining_changes_neither_rows_nor_model(subject: ExplainerSubject) -> None:
    """The rows, the background and the model's files are the same after the call."""
    rows, background = writable(subject.rows), writable(subject.background)
    before = [rows.fingerprint, background.fingerprint, saved_in_memory(subject.model)[1]]
    subject.explain(rows, background=background)
    after = [Dataset(each.table, each.schema).fingerprint for each in (rows, background)]
    for what, then, now in zip(("rows", "background", "model"), before, [*after, saved_in_memory(subject.model)[1]], strict=True):
        if then != now:
            raise CheckFailed(f"it changed the {what} that it was given: work on a copy.")


@check("explainer", Tier.API)
def explaining_leaves_global_state_alone(subject: ExplainerSubject) -> None:
    """Random generators, the environment, warning filters and the like are after the call as they were before it."""
    subject.explain()  # a library may set something up for good when it is first imported
    with left_alone() as changed:
        subject.explain()
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


@check("explainer", Tier.API)
def an_unknown_option_of_an_explainer_is_refused(subject: ExplainerSubject) -> None:
    """An option that it does not know raises UsageError or InvalidInput, so that a typo is no silent default."""
    try:
        subject.explain(surely_no_such_option=1)
    except (UsageError, InvalidInput):
        return
    except Exception as error:
        raise CheckFailed(f"an unknown option raised {type(error).__name__}, not UsageError.") from error
    raise CheckFailed("an unknown option was accepted: name the options, and raise UsageError for any other.")


@check("explainer", Tier.API)
def a_background_that_does_not_fit_is_refused(subject: ExplainerSubject) -> None:
    """A background of one row, or without a column of the model, raises InvalidInput."""
    if subject.scope == "model":
        raise Skip("a description of the model may rest on its rows alone, without a background")
    background, missing = subject.background, subject.model.fitted.inputs.names[0]
    for what, unfit in (("of a single row", background.head(1)), (f"without the column '{missing}'", _without(background, missing))):
        _refused(f"a background {what}", subject, background=unfit)


@check("explainer", Tier.API)
def rows_that_lack_a_column_are_not_explained(subject: ExplainerSubject) -> None:
    """Rows without a column of the model raise InvalidInput."""
    missing = subject.model.fitted.inputs.names[0]
    _refused(f"rows without the column '{missing}'", subject, _without(subject.rows, missing))


@check("explainer", Tier.API)
def the_budget_of_model_rows_is_kept(subject: ExplainerSubject) -> None:
    """The model is asked for no more rows than the budget says, for each explained row or each part that the record's `rows_spent` names."""
    if not subject.takes(budget=AMPLE):
        raise Skip("it takes no budget of model rows")
    rows, background = subject.rows, subject.background
    for budget in (AMPLE, SMALL):
        before, record = subject.model.asked, None
        with suppress(UsageError):  # too small for it, which it says before it asks
            record = subject.explain(budget=budget)
        asked = subject.model.asked - before
        shares = len(rows) if subject.scope != "model" else len(record.details.get("rows_spent", [0])) if record is not None else 1
        # Each row's own answer, once for the record and once to begin with, and the answers to the background are no part of the budget.
        allowed = budget * shares + 2 * len(rows) + len(background)
        if asked > allowed:
            raise CheckFailed(f"with a budget of {budget} model rows it asked for {asked}, more than {allowed}.")


@check("explainer", Tier.API)
def a_record_survives_json(subject: ExplainerSubject) -> None:
    """`to_json` gives JSON, NaN and infinity apart, and what is read back has the same numbers."""
    for _, record in subject.tried:
        try:
            written = json.loads(json.dumps(record.to_json(), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"the record is no JSON ({error}): give details as numbers, texts, lists and mappings.") from error
        again: Any = Explanation.from_json(written).to_json() if isinstance(record, Explanation) else written
        if again != json.loads(json.dumps(record.to_json())):
            raise CheckFailed("the record read back from JSON is another one.")


@check("explainer", Tier.API)
def a_cancelled_explanation_stops(subject: ExplainerSubject) -> None:
    """An exception from the option `report` reaches the caller."""
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        raise Cancelled

    try:
        subject.explain(report=report)
    except Cancelled:
        return
    except UsageError:
        raise Skip("it takes no option 'report', so it cannot be cancelled") from None
    if told:
        raise CheckFailed("it swallowed the exception by which the caller cancels: let what report raises pass.")
    raise Skip("it reports no progress, so it cannot be cancelled")


def _without(data: Dataset, name: str) -> Dataset:
    """The rows with a column of another name in the place of one."""
    schema = Schema(tuple(replace(field, name=f"kit_{name}") if field.name == name else field for field in data.schema))
    return Dataset(data.table.rename_columns(list(schema.names)), schema, name=data.name)


def _refused(what: str, subject: ExplainerSubject, rows: Dataset | None = None, **given: Any) -> None:
    try:
        subject.explain(rows, **given)
    except InvalidInput:
        return
    except Exception as error:
        raise CheckFailed(f"{what} raised {type(error).__name__}, not InvalidInput: use model.fitted.conform.") from error
    raise CheckFailed(f"{what} was taken: raise InvalidInput.")
