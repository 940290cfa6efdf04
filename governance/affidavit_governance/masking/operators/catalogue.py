"""The operators by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.masking import Operator
from affidavit_governance.masking.operators.date_shift import DateShift
from affidavit_governance.masking.operators.format_preserving import FormatPreserving
from affidavit_governance.masking.operators.generalise import Generalise
from affidavit_governance.masking.operators.noise import Noise
from affidavit_governance.masking.operators.partial import Partial
from affidavit_governance.masking.operators.pseudonym import Pseudonym
from affidavit_governance.masking.operators.simple import Drop, Keep, Redact, Replace
from affidavit_governance.masking.operators.synthetic import Synthetic
from affidavit_governance.masking.operators.token import Token
from affidavit_governance.masking.operators.vaulted import Vault

BUNDLED: Mapping[str, type[Operator]] = {
    cls.name: cls
    for cls in (
        *(Redact, Replace, Partial, Pseudonym, FormatPreserving, Token, Vault),
        *(Generalise, DateShift, Noise, Synthetic, Keep, Drop),
    )
}
"""The operators that masking knows without a registry."""


def make_operator(name: str, settings: Mapping[str, Any], *, where: str, known: Mapping[str, type[Operator]] = BUNDLED) -> Operator:
    """The operator that a policy line asks for.

    Raises
    ------
    UsageError
        There is no such operator, or it has no such setting; `where` names the policy line.
    """
    if name not in known:
        raise UsageError(f"{where}: there is no masking operator '{name}'.{nearest(name, known)}", hint=f"Operators: {', '.join(sorted(known))}.")
    try:
        return known[name](**settings)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None
    except TypeError:
        raise InvalidInput(f"{where}: the settings of '{name}' cannot be read.", hint="Write them as key: value.") from None
