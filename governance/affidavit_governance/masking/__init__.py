"""Personal data found and transformed, in text and in tables. Each name is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit_governance.masking.columns import ColumnFinding, scan_table
    from affidavit_governance.masking.findings import Finding, Recognizer
    from affidavit_governance.masking.operators import Operator
    from affidavit_governance.masking.plan import MaskingPlan, apply, mask_table, plan_for
    from affidavit_governance.masking.text import mask_text, scan_text

_FROM = {
    "ColumnFinding": "columns",
    "Finding": "findings",
    "MaskingPlan": "plan",
    "Operator": "operators",
    "Recognizer": "findings",
    "apply": "plan",
    "mask_table": "plan",
    "mask_text": "text",
    "plan_for": "plan",
    "scan_table": "columns",
    "scan_text": "text",
}

__all__ = [
    "ColumnFinding",
    "Finding",
    "MaskingPlan",
    "Operator",
    "Recognizer",
    "apply",
    "mask_table",
    "mask_text",
    "plan_for",
    "scan_table",
    "scan_text",
]


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'affidavit_governance.masking' has no attribute '{name}'")
    return getattr(import_module(f"affidavit_governance.masking.{_FROM[name]}"), name)
