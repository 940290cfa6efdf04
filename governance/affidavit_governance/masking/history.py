"""What was masked before: a data set's own steps, sealed by key, say which columns need nothing more."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import MaskContext

if TYPE_CHECKING:
    from affidavit_governance.masking.plan import ColumnPlan

KEEPS_VALUES = frozenset({"split", "filter", "take", "head", "select", "clean", "declare", "mask", "conform", "bound-contributions"})
"""Steps that only choose rows and columns, or fill gaps with values that are there. After any other step nothing is known."""


def key_digest(key: bytes) -> str:
    """A name for a pseudonym key, which tells nothing about it: two data sets with the same one have comparable pseudonyms."""
    return hashlib.blake2b(b"key name", digest_size=8, key=key, person=b"affidavit-kn-1").hexdigest()


@dataclass(frozen=True, slots=True)
class Masked:
    """What a data set's steps say about its columns.

    Attributes
    ----------
    columns
        Operator and settings by column.
    searched
        The policy's digest by column whose cells were searched under it.
    """

    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    searched: Mapping[str, str] = field(default_factory=dict)

    def holds(self, plan: ColumnPlan) -> bool:
        """Whether the column was masked as `plan` says."""
        done = self.columns.get(plan.name)
        return done is not None and (done.get("operator"), done.get("settings")) == (plan.operator, dict(plan.settings))


def sealed_step(parent: str, context: MaskContext, policy: str, columns: Mapping[str, Any], searched: Sequence[str]) -> dict[str, Any]:
    """The parameters of a ``mask`` step, with a seal that only the masking key can make.

    Parameters
    ----------
    parent
        Fingerprint of the data set as it was.
    """
    body = {"policy": policy, "key": key_digest(context.key), "columns": dict(columns), "searched": list(searched)}
    return {**body, "seal": _seal(parent, body, context)}


def _seal(parent: str, body: Mapping[str, Any], context: MaskContext) -> str:
    message = json.dumps([parent, dict(body)], sort_keys=True, separators=(",", ":"), default=str).encode()
    return hmac.digest(context.derive("mask step"), message, "sha256").hex()


def masked_before(dataset: Dataset, context: MaskContext) -> Masked:
    """Which columns were masked under this key by steps of this data set, with nothing since that could have brought other values in.

    The schema alone proves nothing, and neither does a step whose seal is missing or wrong, or that is written on the very rows which
    it says it masked.
    """
    columns: dict[str, Mapping[str, Any]] = {}
    searched: dict[str, str] = {}
    replaced: set[str] = set()
    for step in reversed(dataset.lineage):
        if step.operation == "replace" and "column" in step.parameters:
            replaced.add(step.parameters["column"])
            continue
        if step.operation == "reveal":
            replaced.update(step.parameters.get("columns", ()))
            continue
        if step.operation not in KEEPS_VALUES:
            break
        if step.operation != "mask" or not _genuine(step.parents, step.parameters, context) or dataset.fingerprint in step.parents:
            continue
        for name, done in step.parameters["columns"].items():
            if name not in replaced:
                columns.setdefault(name, done)
        for name in step.parameters["searched"]:
            if name not in replaced:
                searched.setdefault(name, step.parameters["policy"])
    return Masked(columns, searched)


def _genuine(parents: Sequence[str], parameters: Mapping[str, Any], context: MaskContext) -> bool:
    body = {name: value for name, value in parameters.items() if name != "seal"}
    seal = parameters.get("seal")
    if len(parents) != 1 or not isinstance(seal, str) or not isinstance(body.get("columns"), Mapping) or not isinstance(body.get("searched"), list):
        return False
    return hmac.compare_digest(seal, _seal(parents[0], body, context))
