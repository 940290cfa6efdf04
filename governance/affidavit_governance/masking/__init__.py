"""Personal data found and transformed, in text and in tables. Each name is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit.interfaces.masking import Finding, Operator, Recognizer
    from affidavit_governance.masking.columns import ColumnFinding, scan_table
    from affidavit_governance.masking.plan import MaskingPlan, apply, mask_table, plan_for
    from affidavit_governance.masking.text import mask_text, scan_text

_FROM = {
    "ColumnFinding": "affidavit_governance.masking.columns",
    "Finding": "affidavit.interfaces.masking",
    "MaskingPlan": "affidavit_governance.masking.plan",
    "Operator": "affidavit.interfaces.masking",
    "Recognizer": "affidavit.interfaces.masking",
    "apply": "affidavit_governance.masking.plan",
    "mask_table": "affidavit_governance.masking.plan",
    "mask_text": "affidavit_governance.masking.text",
    "plan_for": "affidavit_governance.masking.plan",
    "scan_table": "affidavit_governance.masking.columns",
    "scan_text": "affidavit_governance.masking.text",
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
    return getattr(import_module(_FROM[name]), name)
