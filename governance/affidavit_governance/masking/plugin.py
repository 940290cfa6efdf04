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
        "EMAIL_ADDRESS": "contact:Email",
        "PHONE_NUMBER": "phones:Phone",
        "CREDIT_CARD": "financial:CreditCard",
        "IBAN_CODE": "financial:Iban",
        "IP_ADDRESS": "network:IpAddress",
        "US_SSN": "america:UsSsn",
    }.items():
        registry.add("recognizer", entity, f"{_HOME}.recognizers.{path}")
    for name, path in {
        "redact": "simple:Redact",
        "pseudonym": "pseudonym:Pseudonym",
        "generalise": "generalise:Generalise",
        "keep": "simple:Keep",
        "drop": "simple:Drop",
    }.items():
        registry.add("operator", name, f"{_HOME}.operators.{path}")
    registry.add("service", "masking", f"{_HOME}.plan:mask_table")
    registry.add("service", "mask_file", f"{_HOME}.surfaces.files:mask_file")
    registry.add("service", "scan", f"{_HOME}.columns:scan_table")
    registry.add("service", "scan_text", f"{_HOME}.text:scan_text")
