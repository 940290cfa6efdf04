"""Governance modules of Affidavit: each folder is one, and registers like any plugin."""
