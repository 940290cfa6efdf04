"""Registers recognizers, operators and the services of masking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HOME = "affidavit_governance.masking"


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the bundled recognizers and operators, and the services ``masking``, ``mask_file``, ``scan`` and ``scan_text``."""
    for entity, path in {
        "EMAIL_ADDRESS": "patterns:Email",
        "PHONE_NUMBER": "phones:Phone",
        "CREDIT_CARD": "patterns:CreditCard",
        "IBAN_CODE": "patterns:Iban",
        "IP_ADDRESS": "patterns:IpAddress",
        "US_SSN": "patterns:UsSsn",
    }.items():
        registry.add("recognizer", entity, f"{_HOME}.{path}")
    for name, path in {"redact": "Redact", "pseudonym": "Pseudonym", "generalise": "Generalise", "keep": "Keep", "drop": "Drop"}.items():
        registry.add("operator", name, f"{_HOME}.operators:{path}")
    registry.add("service", "masking", f"{_HOME}.plan:mask_table")
    registry.add("service", "mask_file", f"{_HOME}.files:mask_file")
    registry.add("service", "scan", f"{_HOME}.columns:scan_table")
    registry.add("service", "scan_text", f"{_HOME}.text:scan_text")
