"""ε of DP-SGD from its four numbers."""

from __future__ import annotations

from affidavit_governance.privacy.accounting.events import Event
from affidavit_governance.privacy.accounting.pld import joint_epsilon
from affidavit_governance.privacy.accounting.rdp import joint_rdp_epsilon


def epsilon(
    sampling_rate: float, noise_multiplier: float, steps: int, delta: float, *, relation: str = "add-or-remove-one", group_size: int = 1
) -> float:
    """ε at `delta` of the Poisson-subsampled Gaussian mechanism, composed `steps` times: what DP-SGD spends.

    Parameters
    ----------
    sampling_rate
        q, the probability of each record to be in a batch.
    noise_multiplier
        σ, the noise's standard deviation over the clipping bound.
    delta
        δ, between 0 and 1.
    relation, group_size
        What a neighbouring data set differs in, see `Event`.

    Returns
    -------
    float
        An upper bound by PLD. Zero steps cost nothing.

    Raises
    ------
    UsageError
        A number out of its range.
    """
    return joint_epsilon((Event("gaussian", noise_multiplier, sampling_rate, steps, relation, group_size),), delta)


def rdp_epsilon(
    sampling_rate: float, noise_multiplier: float, steps: int, delta: float, *, relation: str = "add-or-remove-one", group_size: int = 1
) -> float:
    """ε of the same mechanism as in `epsilon`, by RDP: looser, and found by another road."""
    return joint_rdp_epsilon((Event("gaussian", noise_multiplier, sampling_rate, steps, relation, group_size),), delta)
