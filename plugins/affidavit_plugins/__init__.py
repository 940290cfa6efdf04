"""Plugins that come with Affidavit: each folder is one, and registers like any other."""
