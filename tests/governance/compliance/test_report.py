"""The compliance report: self-contained, safe to open, every number with its evidence, and nothing personal in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import affidavit as af
from affidavit.errors import Refused
from affidavit.interfaces.governance import Evidence
from affidavit.policy import Policy
from affidavit_governance.compliance.figures import written
from affidavit_governance.compliance.markup import Markup, join, tag
from affidavit_governance.compliance.report import render_report

ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags nest."""

    VOID = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.addresses, self.stack, self.text, self.cited = [], [], [], [], [], [], 0
        self.feed(text)
        assert self.stack == [], f"left open: {self.stack}"

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        given = dict(attributes)
        if "id" in given:
            self.ids.append(given["id"])
        for key, value in attributes:
            assert not key.startswith("on"), f"an event handler in <{name}>"
            if key in {"href", "src", "xlink:href", "action", "data"}:
                (self.links if (value or "").startswith("#") else self.addresses).append(value)
        if name not in self.VOID:
            self.stack.append(name)

    def handle_startendtag(self, name, attributes):
        self.handle_starttag(name, attributes)
        if name not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, name):
        assert self.stack.pop() == name

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    """The page, after the checks that hold for any report."""
    page = Page(text)
    assert page.addresses == [], "a link leaves the page"
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags and "iframe" not in page.tags
    assert not re.search(r"https?:|url\(|@import", text), "something would be loaded from the network"
    assert len(page.ids) == len(set(page.ids))
    missing = set(page.links) - {f"#{name}" for name in page.ids}
    assert not missing, f"numbers that name no evidence: {missing}"
    return page


PEOPLE = [
    ("Wilhelmina Vanderbilt", "wilhelmina.vanderbilt@example.org", "+49 30 901820"),
    ("Ottokar Zwingli", "ottokar@zwingli.example", "+41 44 668 18 00"),
]


def people_data(rows=240):
    """A task with an effect, columns full of personal data, and column names that attack the page."""
    generator = np.random.default_rng(3)
    income, age = generator.normal(size=rows), generator.integers(20, 70, rows).astype(float)
    return {
        "full_name": [PEOPLE[i % 2][0] for i in range(rows)],
        "email": [PEOPLE[i % 2][1] for i in range(rows)],
        "phone": [PEOPLE[i % 2][2] for i in range(rows)],
        "income": income,
        ATTACK: generator.normal(size=rows),
        "age": age,
        "city<b>": [("Ulm & Söhne", "Köln <i>")[i % 2] for i in range(rows)],
        "y": np.where(income + generator.normal(size=rows) > 0, "good", "bad"),
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A workspace in which everything happened that a report tells of, without privacy (that has its own test)."""
    folder = tmp_path_factory.mktemp("report")
    policy = {
        "masking": {"fields": {"full_name": "redact"}},
        "fairness": {"protected": ["age"], "bins": {"age": [40.0]}, "gates": [{"metric": "impact_ratio", "min": 0.0}]},
        "quality": {"gates": [{"metric": "roc_auc", "min": 0.6}]},
        "approvals": {"production": {"count": 1, "roles": ["risk"]}},
    }
    with af.Workspace(folder / "ws", policy=policy, actor="team <script>", passphrase="correct horse battery") as workspace:
        data = workspace.load(af.Dataset.from_arrow(people_data(), name="people").table, target="y", name="people <b>")
        train, test = data.split(test=0.5, seed=1)
        model = workspace.train("tabular.logistic", train)
        workspace.evaluate(model, test)
        workspace.explain(model, test.head(20))
        version = workspace.register(model, "credit-risk")
        with pytest.raises(Refused):
            workspace.promote(version, "production")
        approver = af.Approver.create("ana", folder / "ana.pem")
        workspace.enrol(approver, roles=["risk"])
        workspace.promote(version, "production", approver=approver)
        endpoint = workspace.deploy("credit-risk@production")
        for _ in range(3):
            endpoint.predict(test.head(7))
        workspace.ledger.seal_journals()
        yield workspace, render_report(workspace)


def test_the_page_is_self_contained_and_every_number_names_its_evidence(told):
    workspace, text = told
    page = checked(text)
    cited = [link for link in page.links if re.fullmatch(r"#E\d+", link)]
    assert len(cited) > 40
    listed = {int(name[1:]) for name in page.ids if re.fullmatch(r"E\d+", name)}
    assert listed == {e.index for e in workspace.ledger.entries() if e.predicate.get("phase") != "intent"}
    for evidence in workspace.ledger.entries():
        if evidence.index in listed:
            assert evidence.leaf_hash in text


def test_the_page_tells_what_the_evidence_says(told):
    workspace, text = told
    said = " ".join(Page(text).text)
    evaluation = next(e for e in workspace.ledger.entries("evaluate") if e.predicate["status"] == "done").predicate["details"]["evaluation"]
    for figure in (evaluation["metrics"]["roc_auc"]["value"], evaluation["fairness"]["age"]["gaps"]["impact_ratio"]["value"]):
        assert written(figure) in said
    for words in ("credit-risk:1", "tabular.logistic", "linear", "approvals.production", "redact", "age ≤ 40", "ana", workspace.keyring.verifier_key):
        assert words in said
    assert "3 done" in said and "21" in said, "three prediction calls of seven rows are sealed"
    assert "not trained with differential privacy" in said


def test_names_from_the_data_cannot_become_markup(told):
    _, text = told
    assert "<script" not in text and "<img" not in text and "onerror=alert(2)>" not in text.replace("&gt;", "")
    assert "&lt;script&gt;" in text and "city&lt;b&gt;" in text


def test_personal_data_is_not_in_the_page(told):
    _, text = told
    for name, email, phone in PEOPLE:
        for secret in (name, name.split()[1], email, phone):
            assert secret not in text


def test_the_summary_of_a_model_of_numbers_names_its_gap_between_groups(tmp_path):
    generator = np.random.default_rng(2)
    x, group = generator.normal(size=200), generator.integers(0, 2, 200)
    policy = {"fairness": {"protected": ["g"], "gates": [{"metric": "mean_prediction_gap", "max": 5}]}, "approvals": {}}
    with af.Workspace(tmp_path / "ws", policy=policy, passphrase="correct horse battery") as workspace:
        data = workspace.load({"x": x + group, "g": np.array(["f", "m"])[group], "y": 3 * x + generator.normal(size=200)}, target="y")
        train, test = data.split(test=0.5, seed=1)
        model = workspace.train("tabular.linear", train)
        gap = workspace.evaluate(model, test).fairness["g"]["gaps"]["mean_prediction_gap"]["value"]
        workspace.explain(model, data.head(3))
        workspace.promote(workspace.register(model, "m"), "production")
        page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", workspace.service("report")(workspace)))
    assert re.search(rf"Fairness: widest mean prediction gap {re.escape(written(gap))} E\d+ ✓ 1 gates? passed", page)
    assert "not measured" not in page


def test_the_page_is_the_same_each_time_it_is_made(told):
    workspace, text = told
    assert render_report(workspace) == text


def entry(index, kind, predicate, subject=None):
    subject = subject or {f"{kind}:x": "a" * 64}
    common = {"actor": {"name": "x", "roles": [], "key": None}, "policy": Policy().digest, "inputs": {}, "stages": {}, "details": {}, "refusal": None}
    common |= {
        "phase": "outcome",
        "status": "done",
        "started": "2026-01-02T03:04:05.000000Z",
        "finished": "2026-01-02T03:04:06.000000Z",
        "software": {},
    }
    statement = {"subject": [{"name": name, "digest": {"sha256": value}} for name, value in subject.items()], "predicate": {**common, **predicate}}
    return Evidence(index, f"{index:064x}", kind, statement)


def report_of(*entries, policy=None):
    return render_report(
        SimpleNamespace(
            ledger=SimpleNamespace(entries=lambda: iter(entries)),
            policy=policy or Policy(),
            keyring=SimpleNamespace(verifier_key="ws+01234567+AAAA"),
            store=SimpleNamespace(workspace_id="0" * 32),
        )
    )


PRIVACY = {
    "private": True,
    "epsilon": 2.5,
    "epsilon_allowed": 3.0,
    "delta": 1e-5,
    "unit": "record",
    "relation": "add-or-remove-one",
    "noise_multiplier": 1.25,
    "sampling_rate": 0.05,
    "steps": 400,
    "max_grad_norm": 1.0,
    "sampler": "poisson",
    "assumed_public": ["schema"],
    "warnings": [f"careful {ATTACK}"],
    "accountant": {"name": "PLD", "library": "dp-accounting", "version": "0.6", "estimate": "pessimistic"},
    "budget": {"b" * 64: {"before": 1.5, "after": 4.0, "limit": 8.0}},
}


def test_privacy_is_told_in_figures_and_in_plain_words():
    trained = entry(3, "train", {"details": {"type": "tabular.mlp", "rows": 750}, "stages": {"privacy": PRIVACY}})
    page = checked(report_of(trained))
    said = " ".join(page.text)
    for words in ("2.5", "1.25", "0.05", "400", "1·10⁻⁵", "add-or-remove-one", "12.18", "within the policy", "PLD (dp-accounting 0.6, pessimistic)"):
        assert words in said, words
    assert "4" in said and "left" in said
    beyond = report_of(entry(3, "train", {"details": {"type": "m", "rows": 7}, "stages": {"privacy": {**PRIVACY, "epsilon": 3.5}}}))
    assert "beyond the policy" in beyond


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"unit": "record", "relation": "add-or-remove-one"}, "whether one record was in the training data or not changes"),
        ({"unit": "record", "relation": "replace-one"}, "what one record of the training data says changes"),
        ({"unit": "group", "unit_records": 3, "relation": "add-or-remove-one"}, "whether any 3 records were in the training data or not changes"),
        ({"unit": "user", "unit_records": 4, "relation": "add-or-remove-one"}, "whether one user with at most 4 records was in the training data"),
        ({"unit": "label", "relation": "replace-one"}, "another label on one record of the training data changes"),
    ],
)
def test_plain_words_name_what_the_guarantee_protects(said, words):
    trained = entry(3, "train", {"details": {"type": "tabular.mlp", "rows": 750}, "stages": {"privacy": {**PRIVACY, **said}}})
    assert words in " ".join(" ".join(checked(report_of(trained)).text).split())


def test_an_empty_ledger_gives_a_page_that_says_so():
    said = " ".join(checked(report_of()).text)
    assert "Nothing trained yet" in said and "The ledger is empty." in said


def test_missing_figures_and_failures_are_shown_as_such():
    metrics = {"roc_auc": {"value": "NaN", "low": None, "high": None}}
    group = {"count": 4, "small": True, "selection_rate": {"value": 0.5, "low": 0.1, "high": 0.9}, "true_positive_rate": None}
    fairness = {ATTACK: {"favourable": "good", "groups": {ATTACK: group}, "gaps": {"impact_ratio": None}, "small_groups": [ATTACK]}}
    evaluation = {"rows": 4, "data": ATTACK, "metrics": metrics, "curves": {}, "fairness": fairness}
    trained = entry(1, "train", {"details": {"type": "m", "rows": 7}}, {"model:m": "c" * 64})
    measured = entry(2, "evaluate", {"details": {"evaluation": evaluation}, "inputs": {"model:m": "c" * 64}})
    failed = entry(4, "train", {"status": "failed", "error": "ValueError"})
    other = entry(5, "load", {"status": "interrupted", "policy": "d" * 64})
    page = checked(report_of(trained, measured, failed, other))
    said = " ".join(page.text)
    for words in ("NaN", "not measured", "ValueError", "interrupted", "Fewer than 30 rows", "Made under another policy: 1 statement"):
        assert words in said, words


def test_the_model_in_focus_is_the_promoted_one_and_not_the_last_trained():
    first = entry(1, "train", {"details": {"type": "tabular.forest", "rows": 10}}, {"model:tabular.forest": "1" * 64})
    promoted = entry(2, "promote", {"details": {"version": "risk:1", "alias": "production"}}, {"risk:1": "1" * 64})
    second = entry(3, "train", {"details": {"type": "tabular.mlp", "rows": 99}}, {"model:tabular.mlp": "2" * 64})
    assert "tabular.forest trained on" in " ".join(Page(report_of(first, promoted, second)).text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (0, "0"),
        (1234567, "1\u202f234\u202f567"),
        (0.12345, "0.123"),
        (1.23456, "1.235"),
        (1e-5, "1·10⁻⁵"),
        (2.2e-16, "2.2·10⁻¹⁶"),
        (123456.7, "123\u202f457"),
        (2.5e9, "2.5·10⁹"),
        (-0.5, "-0.5"),
        (float("inf"), "inf"),
        ("NaN", "NaN"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert written(value) == text


def test_only_tag_makes_markup():
    assert tag("p", "a<b", title='"x"') == '<p title="&quot;x&quot;">a&lt;b</p>'
    assert join(Markup("<b>"), "<b>", [1, None, tag("i", "&")]) == "<b>&lt;b&gt;1<i>&amp;</i>"
    assert "<" not in str(join(f"{tag('b', 'x')}")), "markup that went through an f-string is text again"
