"""The kit's checks as pytest suites: subclass one, name the class under check in a fixture, and run pytest.

>>> class TestCentroid(ModelSuite):
...     @pytest.fixture
...     def model(self):
...         return Centroid

A second fixture, ``case``, says how it is tried, where the kit's own way does not fit. This module needs pytest; the rest of the kit does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from affidavit.errors import UsageError
from affidavit.testing.catalogue import SUBJECTS
from affidavit.testing.checks import SECONDS, Check, after_hanging, checks_of, expected_reason, known, run_check
from affidavit.testing.process_state import put_back
from affidavit.testing.report import Outcome, Tier
from affidavit.testing.subjects import Case, Subject


def _test(each: Check) -> Callable[[Suite, Subject[Any]], None]:
    def test(self: Suite, subject: Subject[Any]) -> None:
        if not each.needs <= subject.claimed:
            pytest.skip(f"only for {', '.join(sorted(each.needs))}")
        if type(self)._hung:
            pytest.skip(after_hanging(type(self)._hung))
        if each.tier is not Tier.API and type(self)._broken:
            pytest.skip("its checks of the tier api failed first")
        with put_back():
            result = run_check(each, subject, expected=expected_reason(self.expected_failures, each, subject), seconds=self.seconds)
        if result.hung:
            type(self)._hung = each.name
        if result.outcome is Outcome.SKIPPED:
            pytest.skip(result.message)
        if result.outcome is Outcome.EXPECTED_FAILURE:
            pytest.xfail(result.message)
        if result.outcome is not Outcome.PASSED:
            type(self)._broken = type(self)._broken or each.tier is Tier.API
            pytest.fail(f"{result.subject}, {result.check}: {result.message}", pytrace=False)

    test.__name__ = f"test_{each.name}"
    test.__doc__ = each.summary
    return test


class Suite:
    """What the suites share.

    Attributes
    ----------
    kind
        Which checks it holds, one test each.
    expected_failures
        Why a check may fail, by its name; a check that then passes fails its test.
    seconds
        What one check may take.
    """

    kind: ClassVar[str]
    expected_failures: ClassVar[Mapping[str, str]] = {}
    seconds: ClassVar[float] = SECONDS
    _subject: ClassVar[Subject[Any] | None] = None
    _broken: ClassVar[bool] = False
    _hung: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known(cls.expected_failures)
        cls._subject, cls._broken, cls._hung = None, False, ""
        if "kind" in cls.__dict__:
            for each in checks_of(cls.kind):
                setattr(cls, f"test_{each.name}", _test(each))

    @pytest.fixture
    def case(self) -> Case | None:
        """How it is tried; None for the kit's own way."""
        return None

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, case: Case | None) -> Subject[Any]:
        """What the checks are given: one for all of them, so that a model is fitted once."""
        try:
            value = request.getfixturevalue(self.kind)
        except pytest.FixtureLookupError:
            hint = f"Give it a fixture '{self.kind}' that returns the class."
            raise UsageError(f"{type(self).__name__} does not say which {self.kind.replace('_', ' ')} it checks.", hint=hint) from None
        kept = type(self)._subject
        if kept is None or kept.value is not value or (case is not None and kept.case != case):
            name = getattr(value, "type", None) or getattr(value, "name", None) or (case.name if case is not None else "") or value.__name__
            claimed = getattr(getattr(value, "capabilities", None), "names", ())
            type(self)._subject = kept = SUBJECTS[self.kind](value, str(name), frozenset(claimed), case)
        return kept


class ModelSuite(Suite):
    """Every check of a model type. Fixtures: ``model``, the class; ``case``, a `ModelCase`."""

    kind = "model"


class DatasetSuite(Suite):
    """Every check of a source of data sets. Fixtures: ``source``, the class; ``case``, a `SourceCase`."""

    kind = "source"


class DeploymentSuite(Suite):
    """Every check of a deployment target. Fixtures: ``target``, the class; ``case``, a `TargetCase`."""

    kind = "target"


class RecognizerSuite(Suite):
    """Every check of a recognizer. Fixtures: ``recognizer``, the class; ``case``, a `RecognizerCase`."""

    kind = "recognizer"


class OperatorSuite(Suite):
    """Every check of a masking operator. Fixtures: ``operator``, the class; ``case``, an `OperatorCase`."""

    kind = "operator"


class KeyProviderSuite(Suite):
    """Every check of a key provider. Fixtures: ``key_provider``, the class; ``case``, a `KeyProviderCase`."""

    kind = "key_provider"


class ExplainerSuite(Suite):
    """Every check of an explainer. Fixtures: ``explainer``, the class; ``case``, an `ExplainerCase`."""

    kind = "explainer"
