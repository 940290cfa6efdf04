"""Checks of how good a model type is: told, never required."""

from __future__ import annotations

import numpy as np

from affidavit.testing.checks import CheckFailed, check
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
