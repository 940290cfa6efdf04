"""Cryptocurrency addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import wallets
from affidavit_governance.masking.recognizers.base import PatternRecognizer, near
from affidavit_governance.masking.recognizers.identifier import words


class Crypto(PatternRecognizer):
    """Addresses of Bitcoin and its kin (Base58Check, Bech32, Bech32m), of Tron, and of Ethereum (EIP-55 where small and capital letters mix)."""

    entity: ClassVar[str] = "CRYPTO"
    column_words: ClassVar[str | None] = r"\bwallet\b|\bbtc\b|\bbitcoin\b|\beth\b|\bethereum\b|\bcrypto\b"
    literals: ClassVar[tuple[str, ...]] = ("bc1", "BC1", "ltc1", "LTC1")
    anchors: ClassVar[tuple[str, ...]] = (r"[13DLMTX][1-9A-HJ-NP-Za-km-z]{25}", r"0x[0-9A-Fa-f]{40}")
    reach: ClassVar[int | None] = 128
    _base58 = re.compile(r"[13DLMTX](?<![0-9A-Za-z_][13DLMTX])[1-9A-HJ-NP-Za-km-z]{25,34}+(?![0-9A-Za-z_])")
    _segwit = re.compile(r"(?:[bl](?<![0-9A-Za-z_][bl])t?c|[BL](?<![0-9A-Za-z_][BL])T?C)1[02-9A-Za-z]{8,86}+(?![0-9A-Za-z_])")
    _ethereum = re.compile(r"0(?<![0-9A-Za-z_]0)x[0-9A-Fa-f]{40}(?![0-9A-Za-z_])")
    _words = words(r"wallet|\beth\b|ethereum|address|\berc-?20\b|crypto")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for pattern, check, coding in ((self._base58, wallets.base58check, "Base58Check"), (self._segwit, wallets.segwit, "Bech32")):
            for match in pattern.finditer(text):
                if network := check(match.group()):
                    yield Finding(self.entity, match.start(), match.end(), 1.0, f"{network}, {coding}")
        yield from self._of_ethereum(text, hinted=hinted)

    def _of_ethereum(self, text: str, *, hinted: bool) -> Iterator[Finding]:
        mixed = []
        for match in self._ethereum.finditer(text):
            digits = match.group()[2:]
            if digits not in (digits.lower(), digits.upper()):
                mixed.append(match)
                continue
            # Without capitals there is no checksum: other forty digits can look so, and only a run of one digit surely is none.
            supported = hinted or near(self._words, text, match.start(), match.end())
            if len(set(digits)) > 1:
                yield Finding(self.entity, match.start(), match.end(), 0.95 if supported else 0.7, "form" + (", words nearby" if supported else ""))
        # Together, because the hash of many costs little more than that of one.
        for match, right in zip(mixed, wallets.eip55([match.group() for match in mixed]), strict=True):
            if right:
                yield Finding(self.entity, match.start(), match.end(), 1.0, "Ethereum, EIP-55")
