"""Keys, tokens and passwords: found by prefix, header or name, and not where text only speaks of them."""

from __future__ import annotations

import base64
import json

import pytest

from affidavit_governance.masking import mask_text, scan_text
from affidavit_governance.masking.text import scan_values

RANDOM = "q7Zx92Lk0PwRt5YbHn3McVd8"
# The examples of RFC 7515, appendix A.1, and RFC 7519, section 6.1, which has no signature.
JWT = [
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
]
# AWS's own examples (IAM user guide); the others are made up and put together here, so that no scanner takes this file for a leak.
SECRETS = [
    ("AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
    ("GITHUB_TOKEN", "gh" + "p_" + "a1B2" * 9),
    ("GITHUB_TOKEN", "gh" + "s_" + "a1B2" * 9),
    ("GITHUB_TOKEN", "github" + "_pat_" + "a1" * 11 + "_" + "b" * 59),
    ("GOOGLE_API_KEY", "AI" + "za" + "Sy1_-" * 7),
    ("SLACK_TOKEN", "xo" + "xb-123456789012-1234567890123-" + RANDOM),
    ("SLACK_TOKEN", "https://hooks.slack.com" + "/services/T0000000A/B0000000A/" + RANDOM),
    ("STRIPE_KEY", "sk_" + "live_" + RANDOM),
    ("STRIPE_KEY", "rk_" + "test_" + RANDOM),
    ("API_KEY", "sk-" + "ant-api03-" + RANDOM * 3),
    ("API_KEY", "sk-" + "proj-" + RANDOM * 2),
    ("API_KEY", "h" + "f_" + "aB" * 17),
    ("API_KEY", "gl" + "pat-" + RANDOM[:20]),
    ("API_KEY", "np" + "m_" + "a1B2" * 9),
    ("API_KEY", "SG." + "a" * 22 + "." + "b" * 43),
    *(("JWT", token) for token in JWT),
]
NAMED = [
    ("AWS_SECRET_KEY", "aws_secret_access_key = {}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("AWS_SECRET_KEY", '"SecretAccessKey": "{}"', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("AZURE_STORAGE_KEY", "AccountName=devstore;AccountKey={};EndpointSuffix=core.windows.net", "A1b/" * 21 + "ab=="),
    ("API_KEY", "api_key = '{}'", RANDOM),
    ("API_KEY", '"client_secret": "{}"', RANDOM),
    ("API_KEY", "Authorization: Bearer {}", RANDOM),
    ("API_KEY", "token: {}.", RANDOM),
    ("PASSWORD", "password: {}", "hunter2"),
    ("PASSWORD", "DB_PASSWORD={}", "s3cr9!"),
    ("PASSWORD", 'password="{}"', "correcthorse"),
    ("PASSWORD", "Passwort? my password is {}.", "Tr0ub4dor&3"),
    ("PASSWORD", "密码是{}，请改", "abc123!"),
    ("PASSWORD", "postgres://bob:{}@db.example.com:5432/x", "s3cret"),
    ("PASSWORD", "mongodb+srv://ann:{}@cluster0.example.net", "p%40ss"),
]
FRAMES = ["{}", "use {} now", '"{}"', "x={};", "key为{}，好", "({})\n"]


def spans(text: str) -> list[tuple[str, str]]:
    return [(finding.entity, text[finding.start : finding.end]) for finding in scan_text(text)]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("entity", "secret"), SECRETS)
def test_secrets_with_a_prefix_are_found_between_any_neighbours(entity: str, secret: str, frame: str) -> None:
    assert (entity, secret) in spans(frame.format(secret))


@pytest.mark.parametrize(("entity", "words", "secret"), NAMED)
def test_secrets_that_a_name_gives_away_are_found_without_the_name(entity: str, words: str, secret: str) -> None:
    assert (entity, secret) in spans(words.format(secret))


ORDINARY = [
    "Please reset your password: visit the page and enter a new password.",
    "The password is required. Passwords are case-sensitive.",
    "password = getpass.getpass()",
    "password: str | None = None",
    'password = os.environ["DB_PASSWORD"]',
    "password=self.password, token=token, secret=settings.secret",
    "PASSWORD: ********",
    "password: <your password>",
    "DB_PASSWORD=${DB_PASSWORD}",
    "token: the smallest unit of text; key: value; secret: nobody knows",
    "api_key = YOUR_API_KEY_GOES_HERE",
    "bearer of the news, a key account manager, keyboard: qwertyuiopasdfghjkl",
    "see https://example.com/a:b@c and git@github.com:org/repo",
    "AKIA is a prefix; ghp_ is another; xoxb- too; AIza as well; sk-learn, sk-8, hf_hub",
    "eyJub3QiOiJhIGpzb24gd2ViIHRva2VuIn0.abc.def",
    "token: aaaaaaaaaaaaaaaaaaaaaaa1, secret=1111111111111111a",
    "primary_key=1234567890123456789, foreign key: customer_id",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
]
KINDS = {entity for entity, _ in SECRETS} | {entity for entity, _, _ in NAMED} | {"PRIVATE_KEY"}


@pytest.mark.parametrize("text", ORDINARY)
def test_text_that_only_speaks_of_secrets_holds_none(text: str) -> None:
    assert not [found for found in spans(text) if found[0] in KINDS]


def token(header: object, *, size: int = 1) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("="), "eyJhIjoxfQ", "c2ln"]
    return ".".join(parts * size)


def test_a_token_is_one_only_where_its_header_names_an_algorithm() -> None:
    assert spans(token({"alg": "RS256", "kid": "7"})) == [("JWT", token({"alg": "RS256", "kid": "7"}))]
    for header in ({"typ": "JWT"}, {"alg": 7}, {"al": "g"}):
        assert not spans(token(header))


def test_an_encrypted_token_is_found_with_all_five_parts() -> None:
    whole = token({"alg": "RSA-OAEP", "enc": "A256GCM"}) + ".aXY.dGFn"
    assert spans(whole) == [("JWT", whole)]


def test_a_deeply_nested_header_is_no_token_and_no_error() -> None:
    header = base64.urlsafe_b64encode(b'{"a":' * 100_000).decode().rstrip("=")
    assert "JWT" not in {entity for entity, _ in spans(f"{header}.{header}.x")}


PEM = "-----BEGIN {0}-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQ==\n-----END {0}-----"


@pytest.mark.parametrize(
    "kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"]
)
def test_private_keys_are_masked_from_begin_to_end(kind: str) -> None:
    assert mask_text(f"a {PEM.format(kind)} b")[0] == "a <PRIVATE_KEY> b"
    assert mask_text(json.dumps({"key": PEM.format(kind)}))[0] == '{"key": "<PRIVATE_KEY>"}'


def test_two_keys_are_two_findings_and_what_is_between_stays() -> None:
    assert mask_text(f"{PEM.format('PRIVATE KEY')} and {PEM.format('EC PRIVATE KEY')}")[0] == "<PRIVATE_KEY> and <PRIVATE_KEY>"


def test_a_key_that_is_cut_off_is_masked_to_its_last_line() -> None:
    cut = PEM.format("PRIVATE KEY").partition("-----END")[0]
    masked, findings = mask_text(f"a {cut}")
    assert masked.startswith("a <PRIVATE_KEY>")
    assert "MII" not in masked
    assert findings[0].score < 1


def test_a_key_that_is_cut_off_does_not_reach_into_the_next_cell() -> None:
    begin, end = PEM.format("PRIVATE KEY").split("\n", 1)
    cells = [f"{begin}\nMIIE", "nothing", end]
    first, second, third = scan_values(cells)
    assert [(finding.start, finding.end) for finding in first] == [(0, len(cells[0]))]
    assert (second, third) == ([], [])


def test_the_evidence_of_a_secret_never_holds_it() -> None:
    for _, words, secret in NAMED:
        assert all(secret not in finding.evidence for finding in scan_text(words.format(secret)))
