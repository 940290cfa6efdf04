"""What each data set has spent of its privacy, across runs, processes and crashes."""

from affidavit_governance.privacy.budget.settling import settle
from affidavit_governance.privacy.budget.spending import Budget, Reservation

__all__ = ["Budget", "Reservation", "settle"]
