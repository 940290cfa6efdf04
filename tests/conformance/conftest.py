"""The command line and planted distributions, as the end-to-end tests have them."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import affidavit, install_plugin

pytest.register_assert_rewrite("tests.conformance.specimens")

__all__ = ["affidavit", "install_plugin"]
