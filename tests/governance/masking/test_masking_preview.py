"""The preview: before and after, without the personal data."""

from __future__ import annotations

import io
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from affidavit.errors import UsageError
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import preview

KEY = bytes(range(32))
EMAIL, OTHER, PHONE, IP = "jane@example.com", "carl@example.org", "+4915112345678", "192.0.2.235"
TABLE = pa.table(
    {
        "mail": [EMAIL, OTHER, None] * 4,
        "note": [f"call {PHONE} from {IP} <i>", "nothing <b>bold</b>", None] * 4,
        "age": [31, 42, 53] * 4,
        "city": ["Bonn", "Ulm", "Jena"] * 4,
        "gone": ["x1", "x2", "x3"] * 4,
        "kept": [OTHER, EMAIL, None] * 4,
    }
)
RULE = MaskingPolicy.model_validate(
    {
        "fields": {"age": {"generalise": {"width": 10}}, "gone": "drop", "kept": "keep"},
        "entities": {"EMAIL_ADDRESS": "pseudonym", "IP_ADDRESS": "keep"},
    }
)
SECRETS = (EMAIL, OTHER, PHONE, IP, "jane", "carl", "15112345678", "x1")


def shown(**options: Any) -> Any:
    return preview(TABLE, RULE, KEY, **options)


def printed(view: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=400).print(view)
    return stream.getvalue()


def test_it_shows_which_columns_change_by_which_operator_and_why() -> None:
    columns = {column.name: column for column in shown().columns}
    assert {name: column.operator for name, column in columns.items()} == {
        "mail": "pseudonym",
        "note": "spans",
        "age": "generalise",
        "city": None,
        "gone": "drop",
        "kept": "keep",
    }
    assert columns["mail"].reason.startswith("masking.entities.EMAIL_ADDRESS; found")
    assert columns["mail"].before[:3] == ("j***@e******.com", "c***@e******.org", "")
    assert columns["mail"].changed[:3] == (True, True, False)
    assert columns["note"].before[0] == "call +************* from ***.*.*.*** <i>"
    assert columns["note"].after[0] == "call <PHONE_NUMBER> from ***.*.*.*** <i>"
    assert columns["age"].after[:3] == ("30", "40", "50")
    assert columns["gone"].after[0] == "(left out)"
    assert columns["kept"].after == columns["kept"].before
    assert columns["city"].after[:2] == ("Bonn", "Ulm")


def test_no_form_of_it_holds_personal_data() -> None:
    view = shown()
    for text in (repr(view), view._repr_html_(), printed(view), str(view.to_json())):
        assert not [secret for secret in SECRETS if secret in text]


def test_rows_are_as_many_as_asked_for_and_tables_may_be_shorter() -> None:
    assert len(shown(rows=2).columns[0].before) == 2
    assert len(shown(rows=99).columns[0].before) == 12
    with pytest.raises(UsageError, match="at least one row"):
        shown(rows=0)
    with pytest.raises(UsageError, match="mial"):
        preview(TABLE, MaskingPolicy.model_validate({"fields": {"mial": "redact"}}))


class Checker(HTMLParser):
    """Counts cells by row and refuses tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[int] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_is_a_table_of_even_rows_in_which_values_are_text() -> None:
    html = shown(rows=3)._repr_html_()
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.rows == [6] * 7
    assert "b" not in checker.tags
    assert "i" not in checker.tags
    assert html.count("&lt;i&gt;") == 2
    assert "&lt;PHONE_NUMBER&gt;" in html
    assert "nothing &lt;b&gt;bold&lt;/b&gt;" in html


def test_a_browser_draws_it(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    (tmp_path / "a.html").write_text(f"<!doctype html><meta charset=utf-8><title>t</title>{shown(rows=3)._repr_html_()}")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        f"file://{tmp_path / 'a.html'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("chromium does not start here")
    checker = Checker()
    checker.feed(done.stdout[done.stdout.index("<table") : done.stdout.index("</table>") + 8])
    assert checker.rows == [6] * 7
    assert "&lt;PHONE_NUMBER&gt;" in done.stdout


def test_without_a_policy_it_detects_and_redacts() -> None:
    columns = {column.name: column for column in preview(TABLE).columns}
    assert columns["mail"].after[0] == "[REDACTED]"
    assert columns["note"].after[0] == "call <PHONE_NUMBER> from <IP_ADDRESS> <i>"
