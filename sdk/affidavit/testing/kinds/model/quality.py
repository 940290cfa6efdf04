"""Checks of how good a model type is: told, never required."""

from __future__ import annotations

import warnings

import numpy as np

from affidavit.artifacts import saved_in_memory
from affidavit.deprecation import AffidavitDeprecationWarning
from affidavit.interfaces.training import Progress
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.report import Tier


@check("model", Tier.QUALITY)
def it_learns_more_than_the_commonest_answer(subject: ModelSubject) -> None:
    """On the rows that it learnt from it does better than always giving the commonest class, or the mean."""
    target = subject.data.schema.target
    assert target is not None
    predictions = subject.fitted.predict(subject.data)
    if predictions.classes:
        truth = np.array([str(value) for value in subject.data.to_list(target.name)])
        own = float((np.array([str(value) for value in predictions.values]) == truth).mean())
        floor = float(np.unique(truth, return_counts=True)[1].max() / len(truth))
        if own <= floor:
            raise CheckFailed(f"it answers {own:.0%} of the sample's rows rightly; the commonest class alone answers {floor:.0%}.")
        return
    numbers = subject.data.to_numpy(target.name)
    error = float(np.mean((np.asarray(predictions.values, dtype=np.float64) - numbers) ** 2))
    if error >= float(np.var(numbers)):
        raise CheckFailed("its squared error on the sample's rows is not below that of their mean.")


PASSES = ("epochs", "max_epochs", "num_epochs", "num_train_epochs", "steps", "max_steps", "iterations", "max_iter", "rounds")
"""Names of parameters that say how often `fit` goes through something, and so that it may take long."""


@check("model", Tier.QUALITY)
def a_long_fit_tells_how_far_it_is(subject: ModelSubject) -> None:
    """A type with a parameter such as `epochs` reports its progress, which is also how a fit is cancelled."""
    if not set(PASSES) & set(subject.model.Params.model_fields):
        raise Skip(f"it has no parameter such as {', '.join(PASSES[:3])}")
    told: list[Progress] = []
    subject.fit(report=told.append)
    if not told:
        raise CheckFailed("fit reports no progress: call training.report(Progress(done, total)) after each pass.")
    if any(not isinstance(each, Progress) or not 0 <= each.done <= each.total for each in told):
        raise CheckFailed("a progress report is no Progress with 0 <= done <= total.")


@check("model", Tier.QUALITY)
def it_uses_nothing_deprecated(subject: ModelSubject) -> None:
    """`fit`, `predict`, `save` and `load` use nothing of the SDK that goes away in a later release."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", AffidavitDeprecationWarning)
        model = subject.fit()
        model.predict(subject.rows)
        subject.model.load(saved_in_memory(model)[0])
    found = dict.fromkeys(str(each.message) for each in told if issubclass(each.category, AffidavitDeprecationWarning))
    if found:
        raise CheckFailed(" ".join(found))
