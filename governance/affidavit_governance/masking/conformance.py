"""How the conformance kit tries what masking registers."""

from __future__ import annotations

from affidavit.testing.kinds.operator.subject import OperatorCase
from affidavit.testing.subjects import Case
from affidavit_governance.masking.recognizers.conformance import RECOGNIZERS

_CITIES = {"Berlin": "Germany", "Hamburg": "Germany", "Lisbon": "Portugal"}

OPERATORS: list[Case] = [
    OperatorCase(name="redact"),
    OperatorCase(name="replace", label="text", settings={"value": "hidden"}),
    OperatorCase(name="replace", label="number", settings={"value": 7}),
    OperatorCase(name="partial"),
    OperatorCase(name="pseudonym"),
    OperatorCase(name="ff1", authenticated=False),
    OperatorCase(name="token"),
    OperatorCase(name="token", label="subject", settings={"subject": "who"}),
    OperatorCase(name="vault"),
    OperatorCase(name="vault", label="subject", settings={"subject": "who"}),
    OperatorCase(name="generalise", label="prefix", settings={"prefix": 3}),
    OperatorCase(name="generalise", label="width", settings={"width": 1000}),
    OperatorCase(name="generalise", label="label", settings={"width": 1000, "show": "label"}),
    OperatorCase(name="generalise", label="unit", settings={"unit": "month"}),
    OperatorCase(name="generalise", label="hierarchy", settings={"hierarchy": _CITIES}, values=["Berlin", "Lisbon", None, "Hamburg", "Berlin"]),
    OperatorCase(name="date_shift", settings={"subject": "who"}),
    OperatorCase(name="noise", settings={"scale": 1e6}),  # so wide that no whole number stays what it was by chance
    OperatorCase(name="synthetic", settings={"kind": "shape"}),
    OperatorCase(name="keep", keeps_values=True),
    OperatorCase(name="drop"),
]
"""Operators that may be told several things in several cases."""

CASES: list[Case] = [*RECOGNIZERS, *OPERATORS]
