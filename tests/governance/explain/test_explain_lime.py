"""The repaired LIME."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tests.governance.explain.explain_models import Formula

from affidavit import Dataset
from affidavit_governance.explain.methods.lime import Lime


def test_lime_says_that_it_does_not_add_up_and_works_on_gaps_and_strings(formula, table):
    columns = table.table.set_column(0, "x0", pa.array([None if i % 7 == 0 else v for i, v in enumerate(table.to_list("x0"))]))
    data = Dataset(columns, table.schema)
    model = Formula(lambda d: 0.5 + 0.4 * np.array([v == "red" for v in d.to_list("colour")]) - 0.1 * np.isnan(d.to_numpy("x0")), data)
    found = Lime().explain(model, data.head(20), data.take(np.arange(60, 160)), budget=800)
    red = [i for i, colour in enumerate(data.to_list("colour")[:20]) if colour == "red"]
    assert not found.details["additive"] and len(found.details["local_r2"]) == 20
    assert all(abs(found.values[i]).argmax() == 2 and found.values[i, 2] > 0.3 for i in red)
    assert found.residual.max() > 1e-6, "the surrogate's miss must be reported, not hidden"
