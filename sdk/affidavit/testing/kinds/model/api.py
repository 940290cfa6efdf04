"""Checks of a model type as such: what `fit`, `predict`, `save` and `load` promise."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.artifacts import saved_in_memory
from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions, Signature
from affidavit.interfaces.schema import FieldType
from affidavit.interfaces.training import Progress
from affidavit.pickles import find_pickle
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.model.subject import ModelSubject, apart, read_only, writable
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

ROUNDING = 1e-6
"""How far answers that should be the same may lie apart: float32 models add in another order in batches of another size."""


class Cancelled(Exception):
    """What a caller raises from a progress report to cancel."""


@check("model", Tier.API)
def model_is_what_it_registered(subject: ModelSubject) -> None:
    """The class is a `Model`, and its `type` and capabilities are those of its registration."""
    if not (isinstance(subject.model, type) and issubclass(subject.model, Model)):
        raise CheckFailed(f"{subject.model!r} is no subclass of affidavit.Model.")
    if subject.model.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.model.type}': give both the same name.")
    claimed, has = set(subject.claimed), set(subject.model.capabilities.names)
    if claimed != has:
        raise CheckFailed(f"registration and class differ in the capabilities {', '.join(sorted(claimed ^ has))}.")


@check("model", Tier.API)
def fit_learns_and_sets_the_signature(subject: ModelSubject) -> None:
    """`fit` returns the model itself, with a signature of the features, the task and the classes."""
    model = subject.make()
    if model.fit(subject.data) is not model:
        raise CheckFailed("fit must return self.")
    signature = model.signature
    if not isinstance(signature, Signature):
        raise CheckFailed("fit must set 'signature' to a Signature.")
    target = subject.data.schema.target
    features = tuple(field.name for field in subject.data.schema.features)
    if target is None or signature.target != target.name or not set(signature.inputs.names) <= set(features):
        raise CheckFailed("the signature must name the target and only features of the data as inputs.")
    if signature.task.classifies == (not signature.classes):
        raise CheckFailed("a classifier's signature needs the classes, a regression's has none.")


@check("model", Tier.API)
def predict_answers_every_row(subject: ModelSubject) -> None:
    """`predict` gives `Predictions` with one answer a row, classes from the signature and probabilities that sum to one."""
    predictions = subject.fit().predict(subject.rows)
    if not isinstance(predictions, Predictions):
        raise CheckFailed(f"predict gave {type(predictions).__name__}, not Predictions.")
    if len(predictions) != len(subject.rows):
        raise CheckFailed(f"predict gave {len(predictions)} answers for {len(subject.rows)} rows.")
    signature = subject.fitted.fitted
    if tuple(predictions.classes) != tuple(signature.classes):
        raise CheckFailed("the classes of the predictions are not those of the signature, in its order.")
    if signature.classes and not {str(value) for value in predictions.values} <= set(signature.classes):
        raise CheckFailed("a predicted class is none of the signature's.")
    if not signature.classes and not np.isfinite(np.asarray(predictions.values, dtype=np.float64)).all():
        raise CheckFailed("a predicted number is not finite.")
    table = predictions.probabilities
    if table is not None:
        if np.shape(table) != (len(subject.rows), len(signature.classes)):
            raise CheckFailed(f"probabilities have the shape {np.shape(table)}, not rows × classes.")
        if not (np.isfinite(table).all() and (np.asarray(table) >= 0).all() and np.allclose(np.sum(table, axis=1), 1, atol=1e-6)):
            raise CheckFailed("probabilities must be finite, not negative, and sum to one in each row.")


@check("model", Tier.API, needs=["probabilities"])
def claimed_probabilities_are_given(subject: ModelSubject) -> None:
    """A type with the capability `probabilities` gives them."""
    predictions = subject.fitted.predict(subject.rows)
    if predictions.classes and predictions.probabilities is None:
        raise CheckFailed("it claims the capability 'probabilities' and gives labels only.")


@check("model", Tier.API)
def an_unfitted_model_says_so(subject: ModelSubject) -> None:
    """`predict` before `fit` raises UsageError."""
    try:
        subject.make().predict(subject.rows)
    except UsageError:
        return
    except Exception as error:
        raise CheckFailed(f"predict before fit raised {type(error).__name__}; begin with self.fitted, which raises UsageError.") from error
    raise CheckFailed("predict answered before fit.")


@check("model", Tier.API)
def an_unknown_parameter_is_refused(subject: ModelSubject) -> None:
    """A parameter that the type does not know raises InvalidInput, so that a typo is no silent default."""
    try:
        subject.model(**{**subject.params, "surely_no_such_parameter": 1})
    except InvalidInput:
        return
    raise CheckFailed("an unknown parameter was accepted: give Params model_config = ConfigDict(extra='forbid').")


@check("model", Tier.API)
def input_is_not_changed(subject: ModelSubject) -> None:
    """Neither `fit` nor `predict` changes the rows that it is given."""
    for what, call in (("fit", lambda data: subject.make().fit(data)), ("predict", subject.fitted.predict)):
        data = writable(subject.data)
        before = data.fingerprint
        call(data)
        if read_only(data).fingerprint != before:
            raise CheckFailed(f"{what} changed the rows that it was given: work on a copy.")


@check("model", Tier.API)
def the_same_seed_gives_the_same_model(subject: ModelSubject) -> None:
    """Two fits with the same rows and seed answer alike."""
    first, second = (subject.fit(seed=11).predict(subject.rows) for _ in range(2))
    if apart(first, second) > ROUNDING:
        raise CheckFailed(f"two fits with the same seed differ by {apart(first, second):.2g}: draw everything random from training.seed.")


@check("model", Tier.API)
def a_row_alone_is_answered_as_in_a_batch(subject: ModelSubject) -> None:
    """A row's answer depends neither on its neighbours nor on their order."""
    whole = subject.fitted.predict(subject.rows)
    order = np.random.default_rng(0).permutation(len(subject.rows))
    mixed = subject.fitted.predict(subject.rows.take(order))
    if apart(_rows_of(whole, order), mixed) > ROUNDING:
        raise CheckFailed("rows in another order are answered otherwise.")
    for row in (0, len(subject.rows) - 1):
        if apart(_rows_of(whole, np.array([row])), subject.fitted.predict(subject.rows.take([row]))) > ROUNDING:
            raise CheckFailed(f"row {row} alone is answered otherwise than in a batch.")


@check("model", Tier.API)
def an_empty_batch_gives_an_empty_answer(subject: ModelSubject) -> None:
    """No rows give no answers, with the classes."""
    predictions = subject.fitted.predict(subject.rows.head(0))
    if len(predictions) != 0 or tuple(predictions.classes) != tuple(subject.fitted.fitted.classes):
        raise CheckFailed("an empty batch must give an empty answer with the same classes.")


@check("model", Tier.API)
def columns_may_stand_in_any_order_and_more_may_be_there(subject: ModelSubject) -> None:
    """Columns are found by name; those that the model does not know are left out; a missing one is InvalidInput."""
    names = [field.name for field in subject.data.schema.features]
    rows = subject.rows
    table = rows.table.select(list(reversed(names))).append_column("kit_extra", pa.array(["x"] * len(rows)))
    other = Dataset.from_arrow(table, name="other-order", fields={field.name: {"type": str(field.type)} for field in rows.schema.features})
    if apart(subject.fitted.predict(rows), subject.fitted.predict(other)) > ROUNDING:
        raise CheckFailed("columns in another order are answered otherwise: give the rows through self.fitted.conform(data).")
    needed = subject.fitted.fitted.inputs.names[0]
    without = rows.select([name for name in rows.schema.names if name != needed])
    try:
        subject.fitted.predict(without)
    except InvalidInput:
        return
    except Exception as error:
        raise CheckFailed(f"a missing column raised {type(error).__name__}, not InvalidInput: use self.fitted.conform(data).") from error
    raise CheckFailed(f"it answered although the column '{needed}' is missing.")


@check("model", Tier.API)
def gaps_and_unseen_categories_are_answered_or_refused(subject: ModelSubject) -> None:
    """A missing value or an unseen category gets a finite answer or InvalidInput; nothing else is raised."""
    model = subject.fitted
    for name, column in odd_columns(subject.rows):
        index = subject.rows.table.column_names.index(name)
        odd = Dataset(subject.rows.table.set_column(index, name, column), subject.rows.schema, name="odd")
        try:
            predictions = model.predict(odd)
        except InvalidInput:
            continue
        except AffidavitError as error:
            raise CheckFailed(f"odd values in '{name}' raised {type(error).__name__}, not InvalidInput.") from error
        except Exception as error:
            raise CheckFailed(f"odd values in '{name}' raised {type(error).__name__}: answer them, or raise InvalidInput.") from error
        table = predictions.probabilities
        numbers = table if table is not None else None if predictions.classes else predictions.values
        if numbers is not None and not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
            raise CheckFailed(f"odd values in '{name}' are answered with what is no finite number.")


@check("model", Tier.API)
def what_is_saved_comes_back(subject: ModelSubject) -> None:
    """`save` and `load` give a model with the same answers and signature."""
    reader, _ = saved_in_memory(subject.fitted)
    loaded = subject.model.load(reader)
    if not isinstance(loaded, subject.model):
        raise CheckFailed(f"load gave {type(loaded).__name__}, not {subject.model.__name__}.")
    if loaded.signature != subject.fitted.signature:
        raise CheckFailed("the loaded model has another signature: set it to files.signature.")
    if apart(subject.fitted.predict(subject.rows), loaded.predict(subject.rows)) > ROUNDING:
        raise CheckFailed("the loaded model answers otherwise than the saved one.")


@check("model", Tier.API)
def saving_twice_gives_the_same_bytes(subject: ModelSubject) -> None:
    """A model has one digest: `save` writes nothing random and no time."""
    if saved_in_memory(subject.fitted)[1] != saved_in_memory(subject.fitted)[1]:
        raise CheckFailed("two saves of one model differ: write no times, no random names and no order of sets.")


@check("model", Tier.API)
def no_file_is_a_pickle(subject: ModelSubject) -> None:
    """None of the saved files is a pickle or holds one."""
    for name, content in saved_in_memory(subject.fitted)[1].items():
        why = find_pickle(name, content)
        if why is not None:
            raise CheckFailed(f"the file '{name}' counts as a pickle: {why}. Use safetensors, skops, JSON or text.")


@check("model", Tier.API)
def threads_may_predict_at_once(subject: ModelSubject) -> None:
    """Four threads that predict different rows get the answers that each gets alone."""
    parts = [read_only(subject.rows.take(np.arange(start, len(subject.rows), 4))) for start in range(4)]
    alone = [subject.fitted.predict(part) for part in parts]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(subject.fitted.predict, parts))
            if max(apart(a, b) for a, b in zip(alone, together, strict=True)) > ROUNDING:
                raise CheckFailed("threads that predict at once disturb each other: keep nothing of a call on self.")


@check("model", Tier.API)
def global_state_stays_as_it_was(subject: ModelSubject) -> None:
    """`fit` and `predict` leave the SDK, random generators, environment, paths, warnings, logging and the rest of the process as they were."""
    subject.fitted.predict(subject.rows)  # libraries that are imported when they are first needed do such things once
    with left_alone() as changed:
        subject.fit().predict(subject.rows)
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


@check("model", Tier.API)
def a_cancelled_fit_stops_and_leaves_no_model(subject: ModelSubject) -> None:
    """An exception from `training.report` reaches the caller, and the model is not taken for a fitted one."""
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        raise Cancelled

    model = subject.make()
    from affidavit.interfaces.training import Training

    try:
        model.fit(subject.data, Training(report=report))
    except Cancelled:
        if model.signature is not None:
            raise CheckFailed("a cancelled fit left a signature: set it when everything else is done.") from None
        return
    if told:
        raise CheckFailed("it swallowed the exception by which the caller cancels: let what training.report raises pass.")
    raise Skip("it reports no progress, so it cannot be cancelled")


def _rows_of(predictions: Predictions, rows: Any) -> Predictions:
    table = None if predictions.probabilities is None else np.asarray(predictions.probabilities)[rows]
    return Predictions(np.asarray(predictions.values)[rows], predictions.classes, table)


def odd_columns(rows: Dataset) -> list[tuple[str, Any]]:
    """For each feature that may have them: a column of gaps, and one of a category that no training row had."""
    odd: list[tuple[str, Any]] = []
    for field in rows.schema.features:
        kind = rows.table.column(field.name).type
        if field.type is not FieldType.TENSOR:
            odd.append((field.name, pa.chunked_array([pa.nulls(len(rows), kind)])))
        if field.type is FieldType.CATEGORICAL and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            odd.append((field.name, pa.chunked_array([pa.array(["never seen before"] * len(rows), type=kind)])))
    return odd
