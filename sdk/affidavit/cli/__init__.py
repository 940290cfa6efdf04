"""The command line."""

from affidavit.cli.commands import app, main

__all__ = ["app", "main"]
