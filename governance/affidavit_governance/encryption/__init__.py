"""Envelope encryption and the workspace's keys."""

from affidavit_governance.encryption.keyring import open_keyring

__all__ = ["open_keyring"]
