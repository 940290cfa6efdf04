"""The check that a model type still reads what its earlier versions wrote."""

from __future__ import annotations

import numpy as np

from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.keeping import read_kept
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.report import Tier

OTHER_LIBRARIES = 1e-5
"""How far answers may lie apart that another version of a library, on another machine, computed from the same weights."""


@check("model", Tier.API)
def a_kept_artifact_still_loads(subject: ModelSubject) -> None:
    """What an earlier version wrote loads in this one, and answers as it did then."""
    if not subject.case.kept:
        raise Skip("none is kept: write one with affidavit.testing.keep_artifact, and name it in ModelCase(kept=…)")
    for path in subject.case.kept:
        kept = read_kept(path)
        if kept.model_type != subject.name:
            raise CheckFailed(f"'{path.name}' holds a model of type '{kept.model_type}'.")
        try:
            predictions = kept.load(subject.model).predict(kept.rows)
        except Exception as error:
            raise CheckFailed(
                f"'{path.name}', which affidavit {kept.version} wrote, cannot be read: {type(error).__name__}: {error} Keep a reader for it."
            ) from error
        labels = tuple(str(value) for value in predictions.values) if predictions.classes else ()
        numbers = predictions.probabilities if predictions.classes else np.asarray(predictions.values, dtype=np.float64)
        same = kept.answers is None or (
            numbers is not None
            and np.shape(numbers) == kept.answers.shape
            and np.allclose(numbers, kept.answers, rtol=OTHER_LIBRARIES, atol=OTHER_LIBRARIES)
        )
        if labels != kept.labels or not same:
            raise CheckFailed(f"'{path.name}', which affidavit {kept.version} wrote, answers otherwise than it did then.")
