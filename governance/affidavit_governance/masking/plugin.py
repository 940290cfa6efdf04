"""Registers recognizers, operators and the services of masking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl
from affidavit_governance.masking.recognizers.catalogue import BUNDLED, path

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HOME = "affidavit_governance.masking"


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the recognizers and operators that masking brings along, and its services."""
    for entity, place in BUNDLED:
        registry.add("recognizer", entity, path(place))
    registry.add("recognizer", "patterns", path("patterns:Patterns"))
    registry.add("recognizer", "presidio", path("presidio:Presidio"), extra="presidio")
    for name, place in {
        "redact": "simple:Redact",
        "replace": "simple:Replace",
        "partial": "partial:Partial",
        "pseudonym": "pseudonym:Pseudonym",
        "ff1": "format_preserving:FormatPreserving",
        "token": "token:Token",
        "vault": "vaulted:Vault",
        "generalise": "generalise:Generalise",
        "date_shift": "date_shift:DateShift",
        "noise": "noise:Noise",
        "synthetic": "synthetic:Synthetic",
        "keep": "simple:Keep",
        "drop": "simple:Drop",
    }.items():
        registry.add("operator", name, f"{_HOME}.operators.{place}")
    registry.add("service", "masking", f"{_HOME}.applying:mask_table")
    registry.add("service", "mask_file", f"{_HOME}.surfaces.files:mask_file")
    registry.add("service", "prompt_masker", f"{_HOME}.surfaces.prompts:prompt_masker")
    registry.add("service", "reveal", f"{_HOME}.reveal.undoing:reveal")
    registry.add("service", "reveal_file", f"{_HOME}.reveal.files:reveal_file")
    registry.add("service", "shred", f"{_HOME}.reveal.shredding:shred")
    registry.add("service", "subject_keys", f"{_HOME}.reveal.subjects:SqlSubjectKeys")
    registry.add("service", "vault", f"{_HOME}.reveal.vault:SqlVault")
    registry.add("service", "masking_tools", f"{_HOME}.tools:workspace_tools")
    registry.add("service", "scan_source", f"{_HOME}.surfaces.scanning:scan_source")
    registry.add("service", "scan", f"{_HOME}.columns:scan_table")
    registry.add("service", "scan_text", f"{_HOME}.text:scan_text")
