"""The words of reasons: default sentences in English and Chinese, and sentences that the policy's owner wrote."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

from affidavit.errors import Refused
from affidavit.policy import ReasonPolicy

SENTENCES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": MappingProxyType(
            {
                "reason": "Your {feature} counted against you, compared with the reference applicants.",
                "reference": "Compared with {rows} reference applicants (data {digest}).",
                "none": "No single factor can be named: no contribution towards this decision is larger than its margin of error.",
                "none released": "No factor can be named: none of the contributions that may be released is one towards this decision.",
                "beyond": "No factor can be named: the margins of error of the largest contributions may not be released.",
                "tied": "Reasons with one rank cannot be told apart in weight.",
                "left out": "Further factors weigh as much as the last reason named: {features}.",
                "withheld": "Chosen among the contributions that may be released, not among all.",
                "missing": "no entry",
                "true": "yes",
                "false": "no",
            }
        ),
        "zh": MappingProxyType(
            {
                "reason": "与参照申请人相比，您的“{feature}”一项对结果不利。",
                "reference": "与{rows}名参照申请人比较（数据 {digest}）。",
                "none": "无法指明单一因素：没有任何一项对该决定的影响超出其误差范围。",
                "none released": "无法指明因素：在允许公布的影响中，没有一项促成该决定。",
                "beyond": "无法指明因素：影响最大的各项，其误差范围不得公布。",
                "tied": "名次相同的理由，其影响大小无法区分。",
                "left out": "另有因素与最后一项理由影响相当：{features}。",
                "withheld": "理由选自允许公布的影响，并非全部影响。",
                "missing": "未填写",
                "true": "是",
                "false": "否",
            }
        ),
    }
)
"""What is said where the policy has no sentence of its own."""

_PLACES = frozenset({"feature", "value", "reference"})


@dataclass(frozen=True, slots=True)
class Wording:
    """The sentences of one policy.

    Parameters
    ----------
    policy
        Its `language` and `wording`.
    """

    policy: ReasonPolicy

    def say(self, name: str, **values: Any) -> str:
        """One of the default sentences."""
        return SENTENCES[self.policy.language][name].format(**values)

    def sentence(self, player: str) -> str:
        """The sentence for a player, with its places still open."""
        own = self.policy.wording.get(player)
        return (getattr(own, self.policy.language) if own is not None else None) or SENTENCES[self.policy.language]["reason"]

    def places(self, player: str) -> frozenset[str]:
        """Which of ``feature``, ``value`` and ``reference`` the sentence for a player has a place for.

        Raises
        ------
        Refused
            The sentence has a place for something else, or is no template.
        """
        try:
            parts = list(string.Formatter().parse(self.sentence(player)))
        except ValueError:
            raise self._refused(player, "is no template: a brace is not closed") from None
        found = set()
        for _, name, form, conversion in parts:
            if name is None:
                continue
            if name not in _PLACES or form or conversion:
                raise self._refused(player, "has a place for something else than {feature}, {value} and {reference}")
            found.add(name)
        return frozenset(found)

    def text(self, player: str, *, value: Any = None, reference: Any = None) -> str:
        """The sentence for a player with its places filled."""
        return self.sentence(player).format(feature=readable(player), value=self.shown(value), reference=self.shown(reference))

    def shown(self, value: Any) -> str:
        """A value as people read it."""
        if value is None or value != value:
            return self.say("missing")
        if isinstance(value, bool):
            return self.say(str(value).lower())
        if isinstance(value, float):
            return f"{value:.15g}"
        return value.isoformat() if isinstance(value, date) else str(value)

    def _refused(self, player: str, what: str) -> Refused:
        return refused(self.policy, player, what, "Write the sentence with {feature}, {value} and {reference} only.")


def refused(policy: ReasonPolicy, player: str, what: str, satisfy: str) -> Refused:
    """A wording that may not be used."""
    return Refused(f"The wording for '{player}' {what}.", by="policy", line=f"explain.reasons.wording.{player}.{policy.language}", satisfy=satisfy)


def readable(player: str) -> str:
    """A player's name in running text."""
    return player.replace("_", " ")
