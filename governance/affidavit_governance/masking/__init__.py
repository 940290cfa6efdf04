"""Personal data found and transformed, in text and in tables. Each name is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit.interfaces.masking import Finding, Operator, Recognizer
    from affidavit_governance.masking.anonymity.measures import k_anonymity, l_diversity, t_closeness
    from affidavit_governance.masking.anonymity.mondrian import anonymise
    from affidavit_governance.masking.anonymity.release import check_release
    from affidavit_governance.masking.anonymity.risk import reidentification_risk
    from affidavit_governance.masking.applying import apply, mask_table
    from affidavit_governance.masking.columns import ColumnFinding, scan_table
    from affidavit_governance.masking.ff1 import FF1
    from affidavit_governance.masking.plan import MaskingPlan, plan_for
    from affidavit_governance.masking.spans import mask_text
    from affidavit_governance.masking.surfaces.preview import preview
    from affidavit_governance.masking.surfaces.prompts import PromptMasker
    from affidavit_governance.masking.text import scan_text, scan_values

_FROM = {
    "ColumnFinding": "affidavit_governance.masking.columns",
    "FF1": "affidavit_governance.masking.ff1",
    "Finding": "affidavit.interfaces.masking",
    "MaskingPlan": "affidavit_governance.masking.plan",
    "Operator": "affidavit.interfaces.masking",
    "PromptMasker": "affidavit_governance.masking.surfaces.prompts",
    "Recognizer": "affidavit.interfaces.masking",
    "anonymise": "affidavit_governance.masking.anonymity.mondrian",
    "apply": "affidavit_governance.masking.applying",
    "check_release": "affidavit_governance.masking.anonymity.release",
    "k_anonymity": "affidavit_governance.masking.anonymity.measures",
    "l_diversity": "affidavit_governance.masking.anonymity.measures",
    "mask_table": "affidavit_governance.masking.applying",
    "mask_text": "affidavit_governance.masking.spans",
    "plan_for": "affidavit_governance.masking.plan",
    "preview": "affidavit_governance.masking.surfaces.preview",
    "reidentification_risk": "affidavit_governance.masking.anonymity.risk",
    "scan_table": "affidavit_governance.masking.columns",
    "scan_text": "affidavit_governance.masking.text",
    "scan_values": "affidavit_governance.masking.text",
    "t_closeness": "affidavit_governance.masking.anonymity.measures",
}

__all__ = [
    "FF1",
    "ColumnFinding",
    "Finding",
    "MaskingPlan",
    "Operator",
    "PromptMasker",
    "Recognizer",
    "anonymise",
    "apply",
    "check_release",
    "k_anonymity",
    "l_diversity",
    "mask_table",
    "mask_text",
    "plan_for",
    "preview",
    "reidentification_risk",
    "scan_table",
    "scan_text",
    "scan_values",
    "t_closeness",
]


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'affidavit_governance.masking' has no attribute '{name}'")
    return getattr(import_module(_FROM[name]), name)
