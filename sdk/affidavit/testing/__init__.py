"""The conformance kit: proves that a plugin does what its interface promises, and that governance holds around it.

Use ``affidavit check-plugin NAME`` on an installed plugin, or `check_plugin` from Python.
"""

from affidavit.testing.checks import CheckFailed, Skip
from affidavit.testing.kit import check_plugin
from affidavit.testing.report import Outcome, Report, Result, Tier

__all__ = ["CheckFailed", "Outcome", "Report", "Result", "Skip", "Tier", "check_plugin"]
