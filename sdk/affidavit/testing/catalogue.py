"""Every kind that the kit knows, by its name in the registry. Importing this enters all checks."""

from __future__ import annotations

from typing import Any

from affidavit.testing.kinds import plugin
from affidavit.testing.kinds.explainer import api as explainer_api
from affidavit.testing.kinds.explainer import governance as explainer_governance
from affidavit.testing.kinds.explainer import values as explainer_values
from affidavit.testing.kinds.explainer.subject import ExplainerSubject
from affidavit.testing.kinds.key_provider import api as key_provider_api
from affidavit.testing.kinds.key_provider import governance as key_provider_governance
from affidavit.testing.kinds.key_provider.subject import KeyProviderSubject
from affidavit.testing.kinds.model import api, capabilities, governance, inputs, kept, quality
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.kinds.operator import api as operator_api
from affidavit.testing.kinds.operator import governance as operator_governance
from affidavit.testing.kinds.operator import reversal as operator_reversal
from affidavit.testing.kinds.operator import telling as operator_telling
from affidavit.testing.kinds.operator.subject import OperatorSubject
from affidavit.testing.kinds.recognizer import api as recognizer_api
from affidavit.testing.kinds.recognizer import governance as recognizer_governance
from affidavit.testing.kinds.recognizer.subject import RecognizerSubject
from affidavit.testing.kinds.source import api as source_api
from affidavit.testing.kinds.source import damage as source_damage
from affidavit.testing.kinds.source import governance as source_governance
from affidavit.testing.kinds.source.subject import SourceSubject
from affidavit.testing.kinds.target import api as target_api
from affidavit.testing.kinds.target import governance as target_governance
from affidavit.testing.kinds.target.subject import TargetSubject
from affidavit.testing.subjects import Subject

ENTERED = (
    plugin,
    api,
    capabilities,
    inputs,
    kept,
    governance,
    quality,
    recognizer_api,
    recognizer_governance,
    source_api,
    source_damage,
    source_governance,
    operator_api,
    operator_reversal,
    operator_telling,
    operator_governance,
    key_provider_api,
    key_provider_governance,
    target_api,
    target_governance,
    explainer_api,
    explainer_values,
    explainer_governance,
)
"""Modules that enter checks and give no subject."""

SUBJECTS: dict[str, type[Subject[Any]]] = {
    subject.kind: subject
    for subject in (ModelSubject, SourceSubject, TargetSubject, RecognizerSubject, OperatorSubject, KeyProviderSubject, ExplainerSubject)
}
