"""The conformance kit: proves that a plugin does what its interface promises, and that governance holds around it.

Use ``affidavit check-plugin NAME`` on an installed plugin, `check_plugin` from Python, or subclass the suites of `affidavit.testing.suites`
in the plugin's own pytest tests.
"""

from affidavit.testing.checks import CheckFailed, Skip
from affidavit.testing.keeping import keep_artifact
from affidavit.testing.kinds.explainer.subject import ExplainerCase
from affidavit.testing.kinds.key_provider.subject import KeyProviderCase
from affidavit.testing.kinds.model.subject import ModelCase
from affidavit.testing.kinds.operator.subject import OperatorCase
from affidavit.testing.kinds.recognizer.subject import RecognizerCase
from affidavit.testing.kinds.source.subject import SourceCase
from affidavit.testing.kinds.target.subject import TargetCase
from affidavit.testing.kit import check_plugin
from affidavit.testing.report import Outcome, Report, Result, Tier

__all__ = [
    "CheckFailed",
    "ExplainerCase",
    "KeyProviderCase",
    "ModelCase",
    "OperatorCase",
    "Outcome",
    "RecognizerCase",
    "Report",
    "Result",
    "Skip",
    "SourceCase",
    "TargetCase",
    "Tier",
    "check_plugin",
    "keep_artifact",
]
