"""Secrets without a form of their own: passwords and keys that a name beside them gives away."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.recognizers.identifier import occurrences
from affidavit_governance.masking.recognizers.plain import in_lower_case

_NO_SECRET = re.compile(
    r"[*\u2022x.#_-]+|(?:your|my|the|enter|insert|change|example|placeholder|none|null|nil|true|false|undefined|required|optional|string|str|int|bool|empty|hidden|redacted"
    r"|masked|secret|password|passwd|token|key)[\w .-]*|[$%{<\[(].*",
    re.IGNORECASE | re.DOTALL,
)
"""What stands where a secret would: stars, words that ask for one, a variable's name, a template."""

_OTHERS = re.compile(r"[0-9!@#$%^&*+=?~]")
_ENTROPY = 3.0
"""Bits a character. Sixteen random hexadecimal digits have 3.4 on average, English words of that length 2.9."""

_QUOTED = r"\"(?P<double>[^\"\r\n\x1e]{4,200}+)\"|'(?P<single>[^'\r\n\x1e]{4,200}+)'"
_BARE = r"(?P<bare>[^\s\"'<>;,(){}\[\]\x1e，。；、！？（）「」《》“”]{4,200}+)(?![(\[])"
_VALUE = f"(?:{_QUOTED}|{_BARE})"


def entropy(text: str) -> float:
    """Shannon entropy of the characters of `text`, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _span(match: re.Match[str]) -> tuple[int, int]:
    """Where the value of an assignment stands, without the punctuation of the sentence around it."""
    group = match.lastgroup or "bare"
    start, end = match.span(group)
    if group == "bare":
        end -= len(match.group(group)) - len(match.group(group).rstrip(".,:"))
    return start, end


class Password(PatternRecognizer):
    """Passwords: what is assigned to a name with "password" in it, follows "password is", or stands in an address before the host."""

    entity: ClassVar[str] = "PASSWORD"
    _names: ClassVar[tuple[str, ...]] = ("password", "passwd", "passphrase", "pwd", "密码", "口令", "密碼")
    literals: ClassVar[tuple[str, ...]] = ("assw", "ASSW", "assphrase", "ASSPHRASE", "pwd", "Pwd", "PWD", "密码", "口令", "密碼")
    anchors: ClassVar[tuple[str, ...]] = (r"://[^\s/:@\x1e]{0,64}:",)
    reach: ClassVar[int | None] = 256
    _named = re.compile(
        r"(?:pass(?:word|wd|phrase)|pwd|密码|口令|密碼)(?P<link>[\"']?[ \t]{0,2}(?:[:=]{1,2}>?|：|(?:is|was|are)\b|是|为|為)[ \t]{0,3})" + _VALUE,
        re.IGNORECASE | re.ASCII,
    )
    _address = re.compile(r"://[^\s/:@\x1e]{0,64}:(?P<bare>[^\s/@\x1e]{2,128}+)@[0-9A-Za-z\[]")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for at in occurrences(self._names, in_lower_case(text)):
            match = self._named.match(text, at)
            finding = self._assigned(text, match) if match else None
            if finding:
                yield finding
        for at in occurrences(("://",), text):
            match = self._address.match(text, at)
            if match and not _NO_SECRET.fullmatch(match.group("bare")):
                yield Finding(self.entity, match.start("bare"), match.end("bare"), 0.99, "before a host")

    def _assigned(self, text: str, match: re.Match[str]) -> Finding | None:
        start, end = _span(match)
        value = text[start:end]
        if len(value) < 4 or _NO_SECRET.fullmatch(value):
            return None
        score = 0.85
        if not _OTHERS.search(value):
            # Letters alone are as likely a word of the sentence, or a variable.
            assigned = any(sign in match.group("link") for sign in ":=：")
            score = 0.65 if assigned and match.group("bare") is None and " " not in value else 0.3
        return Finding(self.entity, start, end, score, "named a password")


class NamedKey(PatternRecognizer):
    """Keys of services without a prefix that is known: random text that is called a key, token, secret or bearer."""

    entity: ClassVar[str] = "API_KEY"
    literals: ClassVar[tuple[str, ...]] = ("key", "Key", "KEY", "oken", "OKEN", "ecret", "ECRET", "earer", "EARER")
    reach: ClassVar[int | None] = 300
    _named = re.compile(
        r"(?:(?:(?<=api)|(?<=access)|(?<=auth)|(?<=secret)|(?<=private)|(?<=client)|(?<=session)|(?<=api[_ -])|(?<=access[_ -])|(?<=auth[_ -])"
        r"|(?<=secret[_ -])|(?<=private[_ -])|(?<=client[_ -])|(?<=session[_ -]))key|token|secret)"
        r"[\"']?[ \t]{0,2}(?:[:=]{1,2}>?|(?:is|was)\b)[ \t]{0,3}[\"']?(?P<bare>[0-9A-Za-z_.+/=~-]{16,250}+)(?![0-9A-Za-z_(\[])"
        r"|bearer (?P<bearer>[0-9A-Za-z_.+/=~-]{16,250}+)",
        re.IGNORECASE | re.ASCII,
    )

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for at in occurrences(("key", "token", "secret", "bearer"), in_lower_case(text)):
            match = self._named.match(text, at)
            if match is None:
                continue
            start, end = _span(match)
            value = text[start:end]
            if any(char.isdigit() for char in value) and any(char.isalpha() for char in value) and entropy(value) >= _ENTROPY:
                yield Finding(self.entity, start, end, 0.8, "named a key, random")
