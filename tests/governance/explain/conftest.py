"""A small table and a model of it."""

from __future__ import annotations

import pytest
from tests.governance.explain.explain_models import Formula, interacting, make_table


@pytest.fixture
def table():
    return make_table(160)


@pytest.fixture
def formula(table):
    return Formula(interacting, table)
