"""An explanation as a piece of HTML for notebooks: no script, nothing from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures import captions
from affidavit_governance.explain.pictures.captions import Step, number

ROWS_SHOWN = 50
"""Rows that get a table; a notebook with thousands would not open."""

PLAYERS_SHOWN = 25


_DARK = "--ink:#e5e7eb;--muted:#9ca3af;--line:#374151;--up:#f2a266;--down:#7ea6e8;--whisker:#f9fafb;--paper:#111827"

_STYLE = f"""
.affidavit-explanation{{--ink:#1f2937;--muted:#6b7280;--line:#e5e7eb;--up:#e8833a;--down:#1f4e9e;--whisker:#111827;--paper:#ffffff;
color:var(--ink);font:13px/1.45 system-ui,sans-serif;max-width:820px}}
@media(prefers-color-scheme:dark){{.affidavit-explanation{{{_DARK}}}}}
[data-jp-theme-light="true"] .affidavit-explanation,.vscode-light .affidavit-explanation{{--ink:#1f2937;--muted:#6b7280;--line:#e5e7eb;
--up:#e8833a;--down:#1f4e9e;--whisker:#111827;--paper:#ffffff}}
[data-jp-theme-light="false"] .affidavit-explanation,.vscode-dark .affidavit-explanation{{{_DARK}}}
.affidavit-explanation p{{margin:2px 0;color:var(--muted)}}
.affidavit-explanation .head{{color:var(--ink);font-weight:600;font-size:14px}}
.affidavit-explanation summary{{cursor:pointer;padding:4px 0;border-top:1px solid var(--line)}}
.affidavit-explanation table{{border-collapse:collapse;width:100%;margin:2px 0 8px;table-layout:fixed}}
.affidavit-explanation th,.affidavit-explanation td{{text-align:left;padding:2px 8px 2px 0;border:0;background:none;color:var(--ink);
overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-weight:400}}
.affidavit-explanation thead th{{color:var(--muted);font-size:12px}}
.affidavit-explanation .n{{text-align:right;font-variant-numeric:tabular-nums}}
.affidavit-explanation .bar{{position:relative;height:14px;border-left:1px solid var(--line);border-right:1px solid var(--line)}}
.affidavit-explanation .bar *{{position:absolute;display:block}}
.affidavit-explanation .zero{{left:50%;top:-3px;bottom:-3px;border-left:1px solid var(--muted)}}
.affidavit-explanation .up,.affidavit-explanation .down{{top:1px;bottom:1px;background:var(--up)}}
.affidavit-explanation .down{{background:var(--down)}}
.affidavit-explanation .range{{top:6px;height:2px;background:var(--whisker);box-shadow:0 0 0 1px var(--paper)}}
.affidavit-explanation .all{{left:0;right:0}}
.affidavit-explanation .hidden{{top:2px;bottom:2px;outline:1px solid var(--line);
background:repeating-linear-gradient(135deg,var(--line) 0 3px,transparent 3px 7px)}}
"""


def explanation_html(explanation: Explanation) -> str:
    """A heading, and for each row a table of players with values, attributions, bars and 95 % intervals.

    Rows open and close by themselves (``<details>``). Everything that comes from the explanation is escaped.
    """
    rows = min(len(explanation), ROWS_SHOWN)
    parts = ['<div class="affidavit-explanation">', f"<style>{_STYLE}</style>", *_head(explanation)]
    for row in range(rows):
        parts += _row(explanation, row)
    if len(explanation) > rows:
        parts.append(f"<p>{len(explanation) - rows} more rows, not shown.</p>")
    return "".join([*parts, "</div>"])


def _head(explanation: Explanation) -> Iterable[str]:
    details = explanation.details
    count = len(explanation)
    yield f'<p class="head">{escape(explanation.output)}, explained by {escape(explanation.method)}, {count} row{"s" if count != 1 else ""}</p>'
    facts = [captions.how_sure(explanation), f"release: {captions.release(explanation)}"]
    if details.get("reason"):
        facts.append(f"method: {details['reason']}")
    said = {"background_rows": "{} background rows", "model_rows": "{} model rows", "seed": "seed {}"}
    facts += [wording.format(details[key]) for key, wording in said.items() if key in details]
    if explanation.signed is not None:
        facts.append("the record is signed")
    yield f"<p>{escape(' · '.join(facts))}</p>"


def _row(explanation: Explanation, row: int) -> Iterable[str]:
    base, predicted = float(explanation.base[row]), float(explanation.predicted[row])
    summary = f"row {row}: base {number(base)} → prediction {number(predicted)}"
    if explanation.details.get("additive", True) and np.isfinite(explanation.residual[row]):
        summary += f", residual {captions.size(float(explanation.residual[row]))}"
    yield f"<details{' open' if row == 0 else ''}><summary>{escape(summary)}</summary>"
    yield from (f"<p>{escape(note)}</p>" for note in captions.notes(explanation, row))
    reasons = captions.reasons_in_order(explanation, row)
    if reasons:
        yield "<table><thead><tr><th>rank</th><th>player</th><th>direction</th></tr></thead><tbody>"
        yield from (
            f"<tr><td>{rank}</td><td>{escape(player)}</td><td>{escape(captions.SIGNS.get(sign, sign))}</td></tr>" for rank, player, sign in reasons
        )
        yield "</tbody></table></details>"
        return
    yield '<table><colgroup><col style="width:38%"><col style="width:22%"><col></colgroup>'
    interval = "95 % interval" if explanation.errors is not None else ""
    yield f'<thead><tr><th>player</th><th class="n">attribution</th><th>{interval}</th></tr></thead><tbody>'
    found = captions.steps(explanation, row, PLAYERS_SHOWN)
    largest = max((abs(step.value) + (step.error or 0.0) for step in found if np.isfinite(step.value)), default=0.0) or 1.0
    yield from (_line(step, largest) for step in found)
    yield "</tbody></table></details>"


def _line(step: Step, largest: float) -> str:
    name = escape(step.name)
    said = captions.with_error(step.value, step.error) if np.isfinite(step.value) else "withheld"
    return f'<tr><td title="{name}">{name}</td><td class="n">{escape(said)}</td><td>{_bar(step, largest)}</td></tr>'


def _bar(step: Step, largest: float) -> str:
    """Zero in the middle; the bar, and over it the interval."""
    if not np.isfinite(step.value):
        return '<div class="bar"><span class="hidden all"></span></div>'
    end = 50 + 50 * step.value / largest
    kind = "hidden" if step.kind == "withheld" else "up" if step.value >= 0 else "down"
    bar = f'<span class="{kind}" style="left:{min(50.0, end):.2f}%;width:{abs(end - 50):.2f}%"></span>'
    if step.error:
        half = 50 * step.error / largest
        bar += f'<span class="range" style="left:{end - half:.2f}%;width:{2 * half:.2f}%"></span>'
    return f'<div class="bar">{bar}<span class="zero"></span></div>'
