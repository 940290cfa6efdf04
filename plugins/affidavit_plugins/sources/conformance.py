"""How the conformance kit tries what sources registers."""

from __future__ import annotations

from affidavit.testing.subjects import Case

CASES: list[Case] = []
