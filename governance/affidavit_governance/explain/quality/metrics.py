"""What is measured of explanations, by name: for the measuring itself, and for the policy's gates."""

from __future__ import annotations

from collections.abc import Mapping

LEAST_ROWS = 5
"""With fewer rows an interval says nothing, so nothing is measured."""

METRICS: Mapping[str, str] = {
    "deletion": "lower is better",
    "insertion": "higher is better",
    "deletion_gap": "higher is better, 0 is no better than random",
    "insertion_gap": "higher is better, 0 is no better than random",
    "infidelity": "lower is better, 0 is perfect",
    "infidelity_ratio": "lower is better, 1 is no better than random",
    "sensitivity": "lower is better",
    "sensitivity_ratio": "lower is better, 1 is no better than random",
}
"""Each with which way is good."""
