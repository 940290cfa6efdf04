"""How the conformance kit tries the picture model types: parameters that keep training short."""

from __future__ import annotations

from affidavit.testing import ModelCase

CASES = [ModelCase(name="vision.cnn", params={"epochs": 2})]
