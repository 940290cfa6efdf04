"""Every kind that the kit knows, by its name in the registry. Importing this enters all checks."""

from __future__ import annotations

from typing import Any

from affidavit.testing.kinds import plugin
from affidavit.testing.kinds.explainer import ExplainerSubject
from affidavit.testing.kinds.key_provider import KeyProviderSubject
from affidavit.testing.kinds.model import api, capabilities, governance, quality
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.kinds.operator import OperatorSubject
from affidavit.testing.kinds.recognizer import RecognizerSubject
from affidavit.testing.kinds.source import SourceSubject
from affidavit.testing.kinds.target import TargetSubject
from affidavit.testing.subjects import Subject

ENTERED = (plugin, api, capabilities, governance, quality)
"""Modules that enter checks and give no subject."""

SUBJECTS: dict[str, type[Subject[Any]]] = {
    subject.kind: subject
    for subject in (ModelSubject, SourceSubject, TargetSubject, RecognizerSubject, OperatorSubject, KeyProviderSubject, ExplainerSubject)
}
