"""The model that the kit brings along to deploy and explain conforms to what the kit asks of models."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from affidavit.testing.checks import chosen, run_checks
from affidavit.testing.kinds.explainer.subject import IDLE, table
from affidavit.testing.kinds.model.subject import ModelCase, ModelSubject
from affidavit.testing.kinds.target.subject import TASKS
from affidavit.testing.kinds.target.subject import table as deployed
from affidavit.testing.reference import Reference
from affidavit.testing.report import Outcome, Tier


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_model_conforms(task):
    claimed = frozenset(Reference.capabilities.names)
    subject = ModelSubject(Reference, Reference.type, claimed, ModelCase(data=deployed(task)))
    results = run_checks([(each, subject) for each in chosen("model", claimed) if each.tier is not Tier.GOVERNANCE])
    assert [f"{result.check}: {result.message}" for result in results if result.outcome is Outcome.FAILED] == []
    assert sum(result.outcome is Outcome.PASSED for result in results) > 15


def test_a_field_that_it_ignores_changes_no_answer_and_the_others_do():
    data = table()
    model = Reference(ignore=(IDLE,)).fit(data)
    own = model.predict(data).score()
    for name in ("first", "second", IDLE):
        moved = model.predict(data.replace_column(name, pa.array(data.to_numpy(name) + 1.0))).score()
        assert np.array_equal(own, moved) == (name == IDLE)
