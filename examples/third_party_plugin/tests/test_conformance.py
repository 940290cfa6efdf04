"""Every check of the kit as a test."""

import pytest
from acme_credit.centroid import Centroid
from acme_credit.conformance import CASES
from acme_credit.id_card import IdCard

from affidavit.testing.suites import ModelSuite, RecognizerSuite


class TestCentroid(ModelSuite):
    @pytest.fixture
    def model(self):
        return Centroid


class TestIdCard(RecognizerSuite):
    case = pytest.fixture(lambda self: CASES[0])
    recognizer = pytest.fixture(lambda self: IdCard)
