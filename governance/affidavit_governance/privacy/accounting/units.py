"""From a policy's words to the neighbours that its ε is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affidavit.policy import PrivacyPolicy


def neighbours(policy: PrivacyPolicy) -> tuple[str, int]:
    """Relation and group size of every event of a run under `policy`.

    A user with at most k records that take part is a group of k records. Two data sets that differ in the label of one record differ in one
    record, replaced: the unit ``label`` is protected as such.
    """
    return ("replace-one" if policy.unit == "label" else policy.relation), policy.unit_records
