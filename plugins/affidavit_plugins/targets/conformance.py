"""How the conformance kit tries the deployment targets."""

from __future__ import annotations

from affidavit.testing import TargetCase

CASES = [
    TargetCase(name="http", options={"port": 0}),
    TargetCase(name="onnx", options=lambda folder: {"folder": folder / "out"}, registered=True),
]
