"""ε of what ran: numbers in, numbers out."""

from affidavit_governance.privacy.accounting.calibration import calibrate, calibrate_batch, calibrate_steps
from affidavit_governance.privacy.accounting.dpsgd import epsilon, rdp_epsilon
from affidavit_governance.privacy.accounting.events import Event, Relation, repeat_and_select
from affidavit_governance.privacy.accounting.pld import DISCRETIZATION, accountant, joint_delta, joint_epsilon
from affidavit_governance.privacy.accounting.rdp import joint_rdp_epsilon
from affidavit_governance.privacy.accounting.units import neighbours

__all__ = [
    "DISCRETIZATION",
    "Event",
    "Relation",
    "accountant",
    "calibrate",
    "calibrate_batch",
    "calibrate_steps",
    "epsilon",
    "joint_delta",
    "joint_epsilon",
    "joint_rdp_epsilon",
    "neighbours",
    "rdp_epsilon",
    "repeat_and_select",
]
