"""How the conformance kit tries what encryption registers."""

from __future__ import annotations

from affidavit.testing.subjects import Case

CASES: list[Case] = []
