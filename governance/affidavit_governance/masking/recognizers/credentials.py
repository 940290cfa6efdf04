"""Secrets: keys and tokens of services by their prefixes, JSON web tokens, private keys."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CELL, PatternRecognizer

_END = r"(?![0-9A-Za-z_])"


class Token(PatternRecognizer):
    """Base of secrets that a prefix gives away.

    Attributes
    ----------
    _pattern
        The secret; its group ``secret``, where it has one.
    """

    reach: ClassVar[int | None] = 300
    _pattern: ClassVar[re.Pattern[str]]
    _score: ClassVar[float] = 0.95

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        group = "secret" if "secret" in self._pattern.groupindex else 0
        for match in self._pattern.finditer(text):
            yield Finding(self.entity, match.start(group), match.end(group), self._score, "prefix and length")


class AwsAccessKey(Token):
    """Access key ids of AWS: long-term (AKIA) and temporary (ASIA), as the IAM user guide lists them."""

    entity: ClassVar[str] = "AWS_ACCESS_KEY"
    literals: ClassVar[tuple[str, ...]] = ("AKIA", "ASIA")
    _pattern = re.compile(r"A(?<![0-9A-Za-z_]A)[KS]IA[0-9A-Z]{16}" + _END)


class AwsSecretKey(Token):
    """Secret access keys of AWS: forty characters of Base64 after the words "secret key"."""

    entity: ClassVar[str] = "AWS_SECRET_KEY"
    literals: ClassVar[tuple[str, ...]] = ("ecret", "ECRET")
    _pattern = re.compile(
        r"(?:ecret|ECRET)[_ -]?(?:[Aa]ccess|ACCESS)?[_ -]?(?:[Kk]ey|KEY)[^0-9A-Za-z/+\x1e]{1,8}"
        r"(?=[0-9A-Za-z/+]{0,39}[0-9])(?=[0-9A-Za-z/+]{0,39}[G-Z])(?P<secret>[0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
    )
    _score: ClassVar[float] = 0.9


class AzureStorageKey(Token):
    """Keys in connection strings of Azure: ``AccountKey=…==`` of storage, ``SharedAccessKey=…=`` of its buses and hubs."""

    entity: ClassVar[str] = "AZURE_STORAGE_KEY"
    literals: ClassVar[tuple[str, ...]] = ("AccountKey=", "SharedAccessKey=")
    _pattern = re.compile(r"(?:Account|SharedAccess)Key=(?P<secret>[0-9A-Za-z+/]{42,86}+={1,2})")


class GithubToken(Token):
    """Tokens of GitHub: personal (classic and fine-grained), OAuth, app, server and refresh."""

    entity: ClassVar[str] = "GITHUB_TOKEN"
    literals: ClassVar[tuple[str, ...]] = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")
    _pattern = re.compile(rf"g(?<![0-9A-Za-z_]g)(?:h[pousr]_[0-9A-Za-z]{{36,251}}+|ithub_pat_[0-9A-Za-z]{{22}}_[0-9A-Za-z]{{59}}){_END}")


class GoogleApiKey(Token):
    """API keys of Google: ``AIza`` and 35 characters."""

    entity: ClassVar[str] = "GOOGLE_API_KEY"
    literals: ClassVar[tuple[str, ...]] = ("AIza",)
    _pattern = re.compile(r"AIza(?<![0-9A-Za-z_]AIza)[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])")


class SlackToken(Token):
    """Tokens of Slack and addresses of its incoming webhooks."""

    entity: ClassVar[str] = "SLACK_TOKEN"
    literals: ClassVar[tuple[str, ...]] = ("xox", "xapp-", "https://hooks.slack.com/services/")
    _pattern = re.compile(
        r"x(?<![0-9A-Za-z_]x)(?:ox[abeoprs](?:\.xox[bp])?-|app-)[0-9A-Za-z-]{10,250}+"
        r"|https://hooks\.slack\.com/services/T[0-9A-Z]{6,12}/B[0-9A-Z]{6,12}/[0-9A-Za-z]{20,28}"
    )


class StripeKey(Token):
    """Secret and restricted keys of Stripe, and secrets of its webhooks."""

    entity: ClassVar[str] = "STRIPE_KEY"
    literals: ClassVar[tuple[str, ...]] = ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_")
    _pattern = re.compile(r"(?:[sr](?<![0-9A-Za-z_][sr])k_(?:live|test)_[0-9A-Za-z]{16,247}+|whsec_[0-9A-Za-z+/=]{32,64})" + _END)


class ServiceKey(Token):
    """Keys with the prefixes of OpenAI, Anthropic, Hugging Face, GitLab, npm, PyPI, SendGrid, Google's OAuth, DigitalOcean and Shopify."""

    entity: ClassVar[str] = "API_KEY"
    literals: ClassVar[tuple[str, ...]] = ("sk-", "glpat-", "pypi-", "SG.", "GOCSPX-", "hf_", "npm_", "dop_v1_", "shpat_")
    _pattern = re.compile(
        r"(?<![0-9A-Za-z_])(?:sk-(?:ant-|proj-|svcacct-|admin-|or-v1-)[0-9A-Za-z_-]{20,200}+|sk-[0-9A-Za-z]{20}T3BlbkFJ[0-9A-Za-z]{20}"
        r"|hf_[0-9A-Za-z]{34}|glpat-[0-9A-Za-z_-]{20,64}+|npm_[0-9A-Za-z]{36}|pypi-[0-9A-Za-z_-]{80,250}+|SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}"
        r"|GOCSPX-[0-9A-Za-z_-]{28}|dop_v1_[0-9a-f]{64}|shpat_[0-9A-Fa-f]{32})(?![0-9A-Za-z_])"
    )


class JsonWebToken(PatternRecognizer):
    """JSON web tokens (RFC 7519) whose header decodes to JSON that names an algorithm: three or, where encrypted, five parts."""

    entity: ClassVar[str] = "JWT"
    literals: ClassVar[tuple[str, ...]] = ("eyJ",)
    # One start a run, because of what stands before it: time stays linear where `eyJ` repeats.
    _token = re.compile(
        r"eyJ(?<![0-9A-Za-z_-]eyJ)([0-9A-Za-z_-]{8,}+)\.([0-9A-Za-z_-]{2,}+)\.([0-9A-Za-z_-]*+)(?:\.([0-9A-Za-z_-]++)\.([0-9A-Za-z_-]++))?+"
    )

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._token.finditer(text):
            if _names_algorithm("eyJ" + match.group(1)):
                yield Finding(self.entity, match.start(), match.end(), 0.98, "header names an algorithm")


def _names_algorithm(header: str) -> bool:
    """Whether Base64url text decodes to a JSON object with the member ``alg`` (RFC 7515, section 4.1.1)."""
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(decoded, dict) and isinstance(decoded.get("alg"), str)


class PrivateKey(PatternRecognizer):
    """Private keys in PEM (RFC 7468), of OpenSSH and of PGP; one that is cut off counts up to where its text ends."""

    entity: ClassVar[str] = "PRIVATE_KEY"
    literals: ClassVar[tuple[str, ...]] = ("-----BEGIN",)
    _begin = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
    _end = re.compile(r"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
    _body = re.compile(r"[0-9A-Za-z+/=\r\n\\ :,-]*+")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        done, cell = 0, 0
        ends = self._end.finditer(text)
        closing = next(ends, None)
        for begin in self._begin.finditer(text):
            if begin.start() < done:
                continue
            while closing and closing.start() < begin.end():
                closing = next(ends, None)
            if 0 <= cell < begin.end():
                cell = text.find(CELL, begin.end())
            whole = closing is not None and (cell < 0 or closing.start() < cell)
            body = None if whole else self._body.match(text, begin.end())
            done = closing.end() if whole and closing else body.end() if body else begin.end()
            yield Finding(self.entity, begin.start(), done, 1.0 if whole else 0.9, "PEM" if whole else "PEM, cut off")
