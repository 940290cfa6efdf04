"""Which method is chosen, and why."""

from __future__ import annotations

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, images, interacting, make_table, sms, spam

from affidavit.errors import UsageError
from affidavit_governance.explain.planner import choose
from affidavit_plugins.tabular.linear import Logistic
from affidavit_plugins.tabular.trees import Forest


def test_the_planner_chooses_by_capability_and_names_what_fits(formula, table):
    wide = make_table(60, numbers=12)
    assert choose(Logistic().fit(table), table)[0] == "linear"
    assert choose(Forest(trees=3).fit(table), table)[0] == "tree"
    assert choose(formula, table)[0] == "exact"
    assert choose(Formula(interacting, wide), wide)[0] == "leverage"
    assert choose(Formula(spam, sms(["a b"])), sms(["a b"]))[0] == "partition"
    assert choose(Formula(len, images(np.zeros((2, 4, 4)))), table)[0] == "partition"
    assert choose(formula, table, "partition") == ("partition", "asked for by name")
    assert choose(formula, table, "lime") == ("lime", "asked for by name")
    assert choose(formula, table, "acme.own") == ("acme.own", "asked for by name")
    with pytest.raises(UsageError, match=r"Method 'tree' does not fit.*no tree ensemble.*exact, partition, leverage, permutation, kernel, lime"):
        choose(formula, table, "tree")
    with pytest.raises(UsageError, match="model rows for each explained row"):
        choose(Formula(interacting, wide), wide, "exact")
