"""Merkle ledger, evidence, prediction journal, offline verifier and bundle.

The names here belong to the verifying half, which imports the standard library, ``cryptography`` and `affidavit.errors` only.
"""

from affidavit_governance.audit.merkle import verify_consistency, verify_inclusion

__all__ = ["verify_consistency", "verify_inclusion"]
