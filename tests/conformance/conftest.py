"""The command line and planted distributions, as the end-to-end tests have them."""

from __future__ import annotations

from tests.e2e.conftest import affidavit, install_plugin

__all__ = ["affidavit", "install_plugin"]
