"""The sections about the model in focus: data and masking, privacy, quality, fairness, explanations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from affidavit.interfaces.governance import Evidence
from affidavit_governance.compliance.book import Book, JsonObject, details, moment, stage
from affidavit_governance.compliance.charts import Bar, bars, curve, interval, meter
from affidavit_governance.compliance.figures import cite, digest, facts, figure, none, prose, section, table, written
from affidavit_governance.compliance.markup import Child, Markup, join, tag
from affidavit_governance.explain.quality.metrics import METRICS

_RATES = {
    "selection_rate": "Selection rate: share that the model favours",
    "true_positive_rate": "True positive rate: share favoured among those whose true answer is favourable",
    "false_positive_rate": "False positive rate: share favoured among those whose true answer is not",
    "mean_prediction": "Mean prediction",
}
_CURVES = {
    "roc": ("ROC curve", "fpr", "tpr", "false positive rate", "true positive rate", True, False),
    "precision_recall": ("Precision and recall", "recall", "precision", "recall", "precision", False, False),
    "calibration": ("Calibration", "predicted", "observed", "predicted probability", "observed share", True, True),
}
_SHOWN = 15


def data_section(book: Book) -> Markup:
    """Which data were read, and what was masked in them."""
    parts: list[Child] = []
    for evidence in book.done("load"):
        said, masking = details(evidence), stage(evidence, "masking").get("data", {})
        name, fingerprint = next(iter(book.subjects(evidence).items()), ("dataset", ""))
        columns: Mapping[str, Any] = masking.get("columns", {})
        telling = [f for f in said["schema"] if f["role"] != "feature" or f.get("entity") or columns.get(f["name"], {}).get("operator")]
        plain = [f"{f['name']} ({f['type']})" for f in said["schema"] if f not in telling]
        rows = [_column(field, columns.get(field["name"], {}), evidence) for field in telling]
        masked = sum(1 for column in columns.values() if column.get("operator"))
        parts += [
            tag("h3", name.partition(":")[2] or name),
            prose(
                figure(said["rows"], evidence),
                " rows and ",
                figure(len(said["schema"]), evidence),
                f" columns, read from {said['source']} at {moment(evidence)}. ",
                figure(masking.get("cells", 0), evidence),
                " cells in ",
                figure(masked, evidence),
                " columns were masked before anything else saw them. Fingerprint ",
                digest(fingerprint),
                ".",
            ),
            table(("Column", "Type", "Role", "Personal data", "Masked by", "Cells", "Why"), rows),
            prose("Features as they were, without a finding: ", ", ".join(plain), ".") if plain else None,
        ]
    return section("data", "Data and masking", parts or none("No data set was loaded in this workspace."))


def _column(field: JsonObject, masked: JsonObject, evidence: Evidence) -> list[Child]:
    found = ", ".join(f"{name} in {written(count)} cells" for name, count in sorted((masked.get("findings") or {}).items()))
    return [
        tag("strong", field["name"]),
        field["type"],
        field["role"],
        found or field.get("entity") or masked.get("entity") or "–",
        tag("span", masked["operator"], class_="chip") if masked.get("operator") else (field.get("masked") or "–"),
        figure(masked["cells"], evidence) if masked.get("cells") else "–",
        masked.get("reason") or "",
    ]


def _steps(said: JsonObject, evidence: Evidence) -> list[tuple[str, Child]]:
    return [
        ("Noise multiplier σ", figure(said.get("noise_multiplier"), evidence)),
        ("Sampling rate q", figure(said.get("sampling_rate"), evidence)),
        ("Steps", figure(said.get("steps"), evidence)),
        ("Clipping bound C", figure(said.get("max_grad_norm"), evidence)),
        ("Sampling", said.get("sampler")),
    ]


def _releases(releases: list[JsonObject]) -> str:
    """What a model without steps learnt from all rows, in words."""
    kinds = {"sums": "noisy sums over all rows", "minimise": "noisy minimum of a loss over all rows"}
    times = {kind: sum(int(release["times"]) for release in releases if release["release"] == kind) for kind in kinds}
    return ", ".join(f"{number} × {kinds[kind]}" for kind, number in times.items() if number)


def privacy_section(book: Book) -> Markup:
    """The guarantee of the training run, and the budget of its data."""
    evidence = book.about("train")
    said = stage(evidence, "privacy")
    if evidence is None or not said.get("private"):
        return section(
            "privacy",
            "Privacy of training",
            none("The model in focus was not trained with differential privacy." if evidence else "No model was trained."),
        )
    epsilon, delta = float(said["epsilon"]), float(said["delta"])
    rows: list[tuple[str, Child]] = [
        ("ε spent", figure(epsilon, evidence)),
        ("ε allowed by the policy", figure(said.get("epsilon_allowed"), evidence)),
        ("δ", figure(delta, evidence)),
        ("Unit and relation", f"{_unit(said)}, {said.get('relation')}"),
        *([("Releases", _releases(said["releases"]))] if said.get("releases") else _steps(said, evidence)),
        ("Accountant", _accountant(said)),
    ]
    budgets = [
        (
            tag("h3", "Budget of data set ", digest(root)),
            prose(
                figure(spent["after"], evidence),
                " of ",
                figure(spent["limit"], evidence),
                " spent after this run; ",
                figure(max(float(spent["limit"]) - float(spent["after"]), 0.0), evidence),
                " left.",
            ),
            meter(float(spent["after"]), float(spent["before"]), float(spent["limit"])),
        )
        for root, spent in sorted((said.get("budget") or {}).items())
    ]
    public = said.get("assumed_public") or []
    return section(
        "privacy",
        "Privacy of training",
        tag(
            "p",
            f"In plain words: {_difference(said)} changes the probability of anything that can be learnt from the model by a factor of at most ",
            figure(math.exp(epsilon) if epsilon < 700 else math.inf, evidence),
            " (e to the power ε), but for a probability of ",
            figure(delta, evidence),
            ".",
            class_="plain",
        ),
        facts(rows),
        prose("Taken as public, so not protected: ", ", ".join(public), ".") if public else None,
        [tag("p", warning, class_="warning") for warning in said.get("warnings") or []],
        budgets,
    )


def _unit(said: JsonObject) -> str:
    """What is protected, with the number of records that it may have."""
    unit, records = str(said.get("unit")), int(said.get("unit_records") or 1)
    if unit == "group":
        return f"any {records} records"
    return f"one user with at most {records} records" if unit == "user" else f"one {unit}"


def _difference(said: JsonObject) -> str:
    """What neighbouring data sets differ in, in a sentence's words."""
    unit = str(said.get("unit"))
    if unit == "label":
        return "another label on one record of the training data"
    who = _unit(said)
    if said.get("relation") == "replace-one":
        return f"what {who} of the training data say{'' if unit == 'group' else 's'}"
    return f"whether {who} {'were' if unit == 'group' else 'was'} in the training data or not"


def _accountant(said: JsonObject) -> str:
    accountant = said.get("accountant") or {}
    return f"{accountant.get('name', '')} ({accountant.get('library', '')} {accountant.get('version', '')}, {accountant.get('estimate', '')})"


def quality_section(book: Book) -> Markup:
    """Metrics with their intervals, and curves."""
    evidence = book.about("evaluate")
    if evidence is None:
        return section("quality", "Quality", none("The model in focus was not evaluated."))
    evaluation = details(evidence)["evaluation"]
    rows = [_metric(name, metric, evidence) for name, metric in evaluation["metrics"].items()]
    drawn = [_curve(evaluation["curves"], name, evidence) for name in _CURVES if name in evaluation["curves"]]
    return section(
        "quality",
        "Quality",
        prose(
            "Measured on ",
            figure(evaluation["rows"], evidence),
            f" rows of “{evaluation['data']}”, with 95 % bootstrap intervals.",
        ),
        table(("Metric", "Value", "95 % interval", ""), rows),
        tag("div", drawn, class_="charts") if drawn else None,
    )


def _metric(name: str, metric: JsonObject, evidence: Evidence) -> list[Child]:
    value, low, high = (number(metric.get(key)) for key in ("value", "low", "high"))
    drawn = interval(value, low, high) if value is not None and 0 <= value <= 1 and (high is None or high <= 1) else None
    return [words(name), figure(metric.get("value"), evidence), _interval(low, high, evidence), drawn]


def _interval(low: float | None, high: float | None, evidence: Evidence) -> Child:
    return "–" if low is None or high is None else join(written(low), " to ", figure(high, evidence))


def _curve(curves: JsonObject, name: str, evidence: Evidence) -> Markup:
    title, x, y, x_label, y_label, diagonal, dots = _CURVES[name]
    points = [(float(a), float(b)) for a, b in zip(curves[name][x], curves[name][y], strict=True)]
    caption = tag("figcaption", title, cite(evidence))
    return tag("figure", curve(points, title=title, x=x_label, y=y_label, diagonal=diagonal, dots=dots), caption)


def fairness_section(book: Book) -> Markup:
    """Rates by group of each protected field, the gaps between them, and the gates on those."""
    evidence = book.about("evaluate")
    fairness = details(evidence)["evaluation"].get("fairness") or {} if evidence else {}
    if evidence is None or not fairness:
        return section("fairness", "Fairness", none("No protected column was measured for the model in focus."))
    parts: list[Child] = []
    for name, figures in fairness.items():
        parts.append(tag("h3", words(name)))
        if figures.get("favourable"):
            parts.append(prose("Counted as favourable: ", tag("strong", figures["favourable"]), ". Whiskers are 95 % bootstrap intervals."))
        for rate, title in _RATES.items():
            found = [_group(label, group, rate) for label, group in figures["groups"].items() if rate in group]
            if found:
                most = 1.0 if rate != "mean_prediction" else None
                parts.append(
                    tag("figure", tag("figcaption", title, cite(evidence)), bars(found, title=f"{title}, by {name}", most=most), class_="wide")
                )
        if figures.get("small_groups"):
            parts.append(tag("p", "° Fewer than 30 rows: read with care.", class_="note"))
        parts.append(
            table(("Gap between groups", "Value", "95 % interval"), [_gap(gap, metric, evidence) for gap, metric in figures["gaps"].items()])
        )
    return section("fairness", "Fairness", parts)


def _group(label: str, group: JsonObject, rate: str) -> Bar:
    metric = group[rate] or {}
    value = number(metric.get("value"))
    text = f"{written(value)}  (n = {written(group['count'])})"
    return Bar(label, value, number(metric.get("low")), number(metric.get("high")), text, "°" if group.get("small") else "")


def _gap(name: str, metric: JsonObject | None, evidence: Evidence) -> list[Child]:
    metric = metric or {}
    low, high = number(metric.get("low")), number(metric.get("high"))
    return [words(name), figure(metric.get("value"), evidence) if metric.get("value") is not None else "not measured", _interval(low, high, evidence)]


def explanation_section(book: Book) -> Markup:
    """What moved the answers most, how it was computed, and that it adds up."""
    evidence = book.about("explain")
    if evidence is None:
        return section("explanations", "Explanations", none("The model in focus was not explained."))
    said, settings = details(evidence), details(evidence)["settings"]
    ranked = sorted(((float(number(size) or 0.0), name) for size, name in zip(said["mean_absolute"], said["players"], strict=True)), reverse=True)
    rows = [Bar(name, size, text=written(size)) for size, name in ranked[:_SHOWN]]
    rest = ranked[_SHOWN:]
    if rest:
        rows.append(Bar(f"{len(rest)} others together", sum(size for size, _ in rest), text=written(sum(size for size, _ in rest))))
    kind = "exact" if settings.get("exact") else "estimated"
    facts_: list[tuple[str, Child]] = [
        (
            "Method",
            join(said["method"], f" ({kind})" if settings.get("additive", True) else " (a local surrogate that need not add up)", cite(evidence)),
        ),
        ("Explained", join(said["output"], " of ", figure(said["rows"], evidence), " rows")),
        ("Largest additivity residual", figure(said["max_residual"], evidence)),
        ("The same, relative", figure(stage(evidence, "explain").get("max_relative_residual"), evidence)),
        ("Background", join(figure(settings.get("background_rows"), evidence), " rows, ", digest(settings.get("background")))),
        ("Model rows asked", figure(settings.get("model_rows"), evidence)),
    ]
    if settings.get("fallback"):
        facts_.append(("Fell back", settings["fallback"]))
    facts_ += _measured(evidence)
    return section(
        "explanations",
        "Explanations",
        prose(
            "Mean size of each field's contribution to the ",
            said["output"],
            ". On every row base and contributions were added up and compared with the model's own answer. ",
            f"Chosen because {settings['reason']}." if settings.get("reason") else None,
        ),
        tag("figure", tag("figcaption", "Mean |φ| by field", cite(evidence)), bars(rows, title="Mean size of contributions by field"), class_="wide"),
        facts(facts_),
    )


def _measured(evidence: Evidence) -> list[tuple[str, Child]]:
    """What of the explanations was let out, and what was measured of them."""
    said = stage(evidence, "explain")
    lines: list[tuple[str, Child]] = []
    if said.get("release"):
        lines.append(("Released", said["release"]["mode"]))
    quality = said.get("quality")
    if quality:
        for name, metric in quality["metrics"].items():
            low, high = number(metric["low"]), number(metric["high"])
            value = join(figure(metric["value"], evidence), " (", _interval(low, high, evidence), f"; {METRICS.get(name, '')})")
            lines.append((words(name).capitalize(), value))
        why = sorted(set(quality["missing"].values()))
        if why:
            lines.append(("Not measured", f"{', '.join(words(name) for name in quality['missing'])}: {'; '.join(why)}"))
    audit = said.get("reconstruction")
    if audit:
        most = audit["maximum"]
        if most is None:
            lines.append(("Reconstruction of inputs", "; ".join(sorted(set(audit["missing"].values())))))
        else:
            low, high = number(most["low"]), number(most["high"])
            share = join(figure(most["value"], evidence), f" of '{most['field']}' at most (", _interval(low, high, evidence), ")")
            lines.append(("Reconstruction of inputs", share))
    return lines


def words(name: str) -> str:
    """A metric's or column's name for people."""
    return name.replace("_", " ")


def number(value: Any) -> float | None:
    """A figure from evidence as a float; JSON lacks NaN, so text stands for it there, and means: not measured."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
