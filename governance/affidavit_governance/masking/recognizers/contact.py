"""E-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import PatternRecognizer


class Email(PatternRecognizer):
    """E-mail addresses: an unquoted local part (RFC 5321, 4.1.2; accents allowed as in RFC 6531) and a domain with a top-level name."""

    entity: ClassVar[str] = "EMAIL_ADDRESS"
    _local = re.compile(r"[A-Za-z0-9\u00c0-\u04ff._%+&'~^!#$*=/-]{1,64}")
    _domain = re.compile(r"@(?:[A-Za-z0-9\u00c0-\u04ff_-]{1,63}+\.){1,30}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z\u00c0-\u04ff]{2,24})")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        at = text.find("@")
        while at >= 0:
            local = self._local.match(text[max(0, at - 64) : at][::-1])
            domain = self._domain.match(text, at) if local else None
            if local and domain:
                name = local.group()[::-1].lstrip(".'/=*!#$^~&")
                if name:
                    yield Finding(self.entity, at - len(name), domain.end(), 0.98, "address syntax")
            at = text.find("@", at + 1)
