"""What a run has spent so far, found quickly enough to be told after every epoch."""

from __future__ import annotations

from collections.abc import Sequence

from affidavit_governance.privacy.accounting import Event, joint_epsilon, joint_rdp_epsilon


def epsilon_so_far(done: Sequence[Event], planned: Sequence[Event], delta: float) -> float:
    """About the ε at `delta` of `done`, the part that ran of what was `planned`.

    PLD would take up to a second each time. RDP takes a tenth of a millisecond once its first answer is there, but lies above: it is
    scaled so that the whole plan has its ε by PLD. The result is exact at the end and a little too high before.
    """
    whole = joint_rdp_epsilon(planned, delta)
    return joint_epsilon(planned, delta) * joint_rdp_epsilon(done, delta) / whole if whole > 0 else 0.0
