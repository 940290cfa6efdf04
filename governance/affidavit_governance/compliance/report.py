"""The compliance report: one HTML file without scripts or network, written from the ledger's evidence alone."""

from __future__ import annotations

from typing import Any

from affidavit.interfaces.governance import Evidence
from affidavit_governance.compliance.book import Book, details, moment, stage
from affidavit_governance.compliance.figures import cite, counted, digest, figure, section, written
from affidavit_governance.compliance.markup import Child, Markup, join, tag
from affidavit_governance.compliance.model_sections import (
    data_section,
    explanation_section,
    fairness_section,
    number,
    privacy_section,
    quality_section,
    words,
)
from affidavit_governance.compliance.record_sections import (
    approval_section,
    deployment_section,
    evidence_section,
    policy_section,
    refusal_section,
    verify_section,
)
from affidavit_governance.compliance.reveal_sections import reveal_section
from affidavit_governance.compliance.style import CSS

_HEADLINE = ("roc_auc", "balanced_accuracy", "accuracy", "r2", "rmse")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_report(workspace: Any) -> str:
    """The report of a workspace as one self-contained HTML page; each number links to the row of its evidence.

    Everything in it comes from `workspace.ledger`, but for the policy in force and the verifier key. It is about the model that was
    promoted last (else registered, else trained), and lists what the whole workspace did, refusals included.
    """
    book = Book.read(workspace.ledger.entries())
    sections = [
        _summary(book),
        data_section(book),
        privacy_section(book),
        quality_section(book),
        fairness_section(book),
        explanation_section(book),
        approval_section(book),
        deployment_section(book),
        reveal_section(book),
        refusal_section(book),
        policy_section(book, workspace.policy),
        evidence_section(book),
        verify_section(workspace.keyring.verifier_key),
    ]
    title = f"Compliance report: {book.version() or _type(book) or 'empty workspace'}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    body = tag("body", _header(book, workspace), _navigation(sections), tag("main", sections, _footer(book)))
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en")


def _header(book: Book, workspace: Any) -> Markup:
    last = moment(book.entries[-1]) if book.entries else "never"
    return tag(
        "header",
        tag(
            "div",
            tag("p", "Affidavit · compliance report", class_="kicker"),
            tag("h1", book.version() or _type(book) or "Nothing trained yet"),
            tag("p", "Workspace ", digest(workspace.store.workspace_id), f" · {written(len(book.entries))} ledger entries · last {last}"),
        ),
    )


def _navigation(sections: list[Markup]) -> Markup:
    links = []
    for part in sections:
        anchor = part.split('id="', 1)[1].split('"', 1)[0]
        links.append(tag("a", anchor.capitalize(), href=f"#{anchor}"))
    return tag("nav", tag("div", links))


def _footer(book: Book) -> Markup:
    software = book.entries[-1].predicate.get("software", {}) if book.entries else {}
    known = ", ".join(f"{name} {version}" for name, version in sorted(software.items()))
    return tag("footer", f"Made with {known}." if known else "")


def _type(book: Book) -> str | None:
    trained = book.about("train")
    return str(details(trained)["type"]) if trained else None


def _summary(book: Book) -> Markup:
    tiles = [
        _model_tile(book),
        _data_tile(book),
        _privacy_tile(book),
        _quality_tile(book),
        _fairness_tile(book),
        _explanation_tile(book),
        _release_tile(book),
        _refusal_tile(book),
    ]
    return section("summary", "Summary", tag("p", _story(book)), tag("div", tiles, class_="tiles"))


def _story(book: Book) -> Child:
    trained, promoted = book.about("train"), book.about("promote")
    if trained is None:
        return "No model was trained in this workspace yet."
    said, privacy = details(trained), stage(trained, "privacy")
    private: Child = (
        join(", with differential privacy of ε = ", figure(privacy["epsilon"], trained))
        if privacy.get("private")
        else ", without differential privacy"
    )
    end: Child = " It was not promoted."
    if promoted is not None:
        approvals = stage(promoted, "access").get("approvals") or []
        end = join(f" It was promoted to {details(promoted)['alias']} with ", figure(len(approvals), promoted), " approvals.")
    return join(f"{book.version() or 'The model'} is a {said['type']} trained on ", figure(said["rows"], trained), " rows", private, ".", end)


def _tile(title: str, big: Child, verdict: str, state: str, *more: Child) -> Markup:
    return tag("div", tag("h3", title), tag("p", big, class_="big"), tag("p", tag("span", verdict, class_="verdict"), *more), class_=f"tile {state}")


def _model_tile(book: Book) -> Markup:
    trained = book.about("train")
    if trained is None:
        return _tile("Model", "none", "– not trained", "")
    return _tile("Model", details(trained)["type"], "", "", "artifact ", digest(book.model), cite(trained))


def _data_tile(book: Book) -> Markup:
    loads = book.done("load")
    if not loads:
        return _tile("Data", "none", "– not loaded", "")
    cells = sum(int(stage(e, "masking").get("data", {}).get("cells", 0)) for e in loads)
    return _tile(
        "Data",
        join(figure(details(loads[-1])["rows"], loads[-1]), " rows"),
        "✓ masked on the way in" if cells else "✓ nothing personal found",
        "good",
        ", ",
        figure(cells, loads[-1]),
        " cells",
    )


def _privacy_tile(book: Book) -> Markup:
    trained = book.about("train")
    said = stage(trained, "privacy")
    if trained is None or not said.get("private"):
        return _tile("Private training", "no", "! no guarantee", "warn")
    within = float(said["epsilon"]) <= float(said["epsilon_allowed"])
    verdict, state = ("✓ within the policy", "good") if within else ("✗ beyond the policy", "bad")
    return _tile(
        "Private training", join("ε = ", figure(said["epsilon"], trained)), verdict, state, ", allowed ", figure(said["epsilon_allowed"], trained)
    )


def _quality_tile(book: Book) -> Markup:
    evaluated = book.about("evaluate")
    if evaluated is None:
        return _tile("Quality", "–", "! not measured", "warn")
    metrics = details(evaluated)["evaluation"]["metrics"]
    name = next((name for name in _HEADLINE if name in metrics), next(iter(metrics)))
    low, high = number(metrics[name].get("low")), number(metrics[name].get("high"))
    spread = f", 95 % {written(low)} to {written(high)}" if low is not None else ""
    verdict, state = _gates(book, "quality.")
    return _tile(f"Quality: {words(name)}", figure(metrics[name]["value"], evaluated), verdict, state, spread)


def _fairness_tile(book: Book) -> Markup:
    evaluated = book.about("evaluate")
    fairness = details(evaluated)["evaluation"].get("fairness") or {} if evaluated else {}
    verdict, state = _gates(book, "fairness.")
    for title, gap, worst in (("lowest impact ratio", "impact_ratio", min), ("widest mean prediction gap", "mean_prediction_gap", max)):
        values = [(value, name) for name, found in fairness.items() if (value := number((found["gaps"].get(gap) or {}).get("value"))) is not None]
        if values and evaluated is not None:
            value, name = worst(values)
            return _tile(f"Fairness: {title}", figure(value, evaluated), verdict, state, f", by {words(name)}")
    return _tile("Fairness", "–", "! not measured", "warn")


def _gates(book: Book, line: str) -> tuple[str, str]:
    promoted = book.about("promote")
    passed = [gate for gate in stage(promoted, "policy").get("gates") or [] if str(gate.get("line", "")).startswith(line)]
    return (f"✓ {counted(len(passed), 'gate')} passed", "good") if passed else ("– no gate", "")


def _explanation_tile(book: Book) -> Markup:
    explained = book.about("explain")
    if explained is None:
        return _tile("Explanations", "–", "! not explained", "warn")
    said = details(explained)
    additive = said["settings"].get("additive", True)
    verdict, state = ("✓ adds up", "good") if additive else ("! a surrogate", "warn")
    return _tile(
        "Explanations",
        join(said["method"], ", ", figure(said["rows"], explained), " rows"),
        verdict,
        state,
        ", relative residual ",
        figure(stage(explained, "explain").get("max_relative_residual"), explained),
    )


def _release_tile(book: Book) -> Markup:
    promoted = book.about("promote")
    calls = sum(sum(e.predicate["journal"]["outcomes"].values()) for e in book.journals())
    told: Child = join(", ", counted(calls, "prediction call"), " sealed") if calls else ""
    if promoted is None:
        return _tile("Release", "not promoted", "– awaits approval", "", told)
    approvals = stage(promoted, "access").get("approvals") or []
    return _tile("Release", details(promoted)["alias"], f"✓ {counted(len(approvals), 'approval')}", "good", cite(promoted), told)


def _refusal_tile(book: Book) -> Markup:
    stopped: list[Evidence] = book.stopped()
    refused = [e for e in stopped if e.predicate["status"] == "refused"]
    if not stopped:
        return _tile("Refused or failed", "0", "✓ nothing", "good")
    return _tile(
        "Refused or failed",
        written(len(stopped)),
        f"{len(refused)} refused, {len(stopped) - len(refused)} failed",
        "warn",
        *[cite(e) for e in stopped[-3:]],
    )
