"""Addresses on the net: e-mail, web pages, domains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near
from affidavit_governance.masking.recognizers.countries import TOP_LEVEL_DOMAINS


class Email(PatternRecognizer):
    """E-mail addresses: an unquoted local part (RFC 5321, 4.1.2; accents allowed as in RFC 6531) and a domain with a top-level name."""

    entity: ClassVar[str] = "EMAIL_ADDRESS"
    column_words: ClassVar[str | None] = r"\be ?mails?\b|邮箱|邮件"
    anchors: ClassVar[tuple[str, ...]] = (r"@[^\x00-\x20]",)
    _local = re.compile(r"[A-Za-z0-9\u00c0-\u04ff._%+&'~^!#$*=/-]{1,64}")
    _domain = re.compile(r"@(?:[A-Za-z0-9\u00c0-\u04ff_-]{1,63}+\.){1,30}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z\u00c0-\u04ff]{2,24})")

    _key = re.compile(r"[A-Za-z0-9_.-]*(?:mail|user|name|login|to|from|cc|sender|recipient|contact|addr|address|account|id|q|query)=", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        at = text.find("@")
        while at >= 0:
            local = self._local.match(text[max(0, at - 64) : at][::-1])
            domain = self._domain.match(text, at) if local else None
            if local and domain:
                name = self._without_key(local.group()[::-1]).lstrip(".'/=*!#$^~&")
                if name:
                    yield Finding(self.entity, at - len(name), domain.end(), 0.98, "address syntax")
            at = text.find("@", at + 1)

    def _without_key(self, name: str) -> str:
        """The local part without what stands before it in a path or a query. The signs there may belong to an address, but hardly ever do,
        and with them one address would get another token in each place."""
        path, slash, last = name.rpartition("/")
        if slash and ("." in path or "/" in path):
            name = last
        if "=" in name:
            name = name.rpartition("&")[2]
            if key := self._key.match(name):
                name = name[key.end() :]
        return name


_OWN = r"\bmy (?:(?:own|personal) )?(?:web ?site|web ?page|home ?page|site|blog|portfolio|profile)|我的(?:网站|主页|博客)"
"""Words that make a web address somebody's own."""


class Url(PatternRecognizer):
    """Web addresses (RFC 3986), from the scheme or ``www.`` on.

    Most say nothing about a person, so they score below the default threshold, but those with user information or an e-mail address in
    them, and those that somebody calls their own.
    """

    entity: ClassVar[str] = "URL"
    column_words: ClassVar[str | None] = r"\b(personal|own) (web ?site|page|url)\b|\bhome ?page\b|个人主页"
    literals: ClassVar[tuple[str, ...]] = ("://", "www.")
    needs: ClassVar[str | None] = rf"@|%40|{_OWN}"
    _start = re.compile(r"://(?=[0-9A-Za-z\[])|www\.(?<![0-9A-Za-z_@.-]www\.)(?=[0-9A-Za-z])")
    _scheme = re.compile(r"[0-9A-Za-z+.-]{0,15}[A-Za-z](?![0-9A-Za-z])")
    _rest = re.compile(r"[0-9A-Za-z._~:/?#@!$&'()*+,;=%\[\]-]{1,2048}")
    _words = re.compile(_OWN, re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        done = 0
        for sign in self._start.finditer(text):
            if sign.start() < done:
                continue
            start = sign.start()
            if sign.group() == "://":
                scheme = self._scheme.match(text[max(done, start - 16) : start][::-1])
                if scheme is None:
                    continue
                start -= scheme.end()
            rest = self._rest.match(text, sign.start())
            assert rest is not None
            value = text[start : rest.end()].rstrip(".,;:!?'*")
            while value.endswith((")", "]")) and value.count(value[-1]) > value.count("(" if value[-1] == ")" else "["):
                value = value[:-1].rstrip(".,;:!?'*")
            done = start + len(value)
            personal = "@" in value or "%40" in value
            supported = not personal and (hinted or near(self._words, text, start, done))
            evidence = "address syntax" + (", user information or e-mail inside" if personal else ", words nearby" if supported else "")
            yield Finding(self.entity, start, done, 0.5 + CONTEXT_BONUS * (personal or supported), evidence)


class DomainName(PatternRecognizer):
    """Names of hosts (RFC 1035) below a top-level domain in use. They are no personal data by themselves: never above the default threshold."""

    entity: ClassVar[str] = "DOMAIN_NAME"
    anchors: ClassVar[tuple[str, ...]] = (r"\.[A-Za-z]{2}",)
    needs: ClassVar[str | None] = ""
    _dot = re.compile(r"\.[A-Za-z]{2}")
    _left = re.compile(r"(?:[0-9A-Za-z-]{1,63}\.){0,5}[0-9A-Za-z-]{1,63}")
    _right = re.compile(r"(?:\.[0-9A-Za-z-]{1,63}){1,6}")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        done = 0
        for dot in self._dot.finditer(text):
            if dot.start() < done:
                continue
            left = self._left.match(text[max(done, dot.start() - 254) : dot.start()][::-1])
            right = self._right.match(text, dot.start())
            assert right is not None
            done = right.end()
            if left is None:
                continue
            start = dot.start() - left.end()
            labels = text[start:done].lower().split(".")
            while labels and labels[-1] not in TOP_LEVEL_DOMAINS:
                labels.pop()
            end = start + len(".".join(labels))
            around = text[max(0, start - 1) : start] + text[end : end + 1]
            if len(labels) > 1 and not any(each[0] == "-" or each[-1] == "-" for each in labels) and not re.search(r"[@_]", around):
                yield Finding(self.entity, start, end, 0.5, "known top-level domain")
