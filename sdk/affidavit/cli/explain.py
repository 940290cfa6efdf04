"""The commands that say why: explaining rows, a model as a whole, or changes that flip a decision; and making a recorded explanation again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, print_table, progress, visible
from affidavit.errors import UsageError

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.model import Model
    from affidavit.workspace import Workspace

Data = Annotated[Path, typer.Argument(help="The rows: CSV, Parquet, JSON lines or Arrow.")]
Rows = Annotated[int, typer.Option(min=1, help="How many rows.")]
Start = Annotated[int, typer.Option(min=0, help="The first of them, from 0.")]

SHOWN = 3
"""Rows drawn on a terminal: more would scroll away, and --plot or --save hold them all."""


def add_commands(app: typer.Typer) -> None:
    """Add ``explain`` and ``replay``."""
    app.command()(explain)
    app.command()(replay)


def explain(
    version: Annotated[str, typer.Argument(help="For example credit-risk@production or credit-risk:1.")],
    data: Data,
    rows: Rows = 5,
    start: Start = 0,
    method: Annotated[str | None, typer.Option(help="exact, tree, leverage…, or partial-dependence, surrogate-tree, counterfactual…")] = None,
    label: Annotated[str | None, typer.Option(help="The class to explain; default: the last one.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    budget: Annotated[int | None, typer.Option(min=1, help="Model rows that each explained row may cost.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds that each explained row may take.")] = None,
    width: Annotated[float | None, typer.Option(help="Width of the 95 % intervals to reach.")] = None,
    target: Annotated[str | None, typer.Option(help="The target column, for methods that measure losses.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="name=value for what the method alone takes, the value as JSON; repeatable.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the first row into this file: .png, .svg or .html.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of the picture: waterfall, bar, beeswarm, force…")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the signed record into this JSON file, for 'affidavit replay'.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Explain predictions of a registered model, the model as a whole, or changes that flip its decisions."""
    given = {"label": label, "budget": budget, "seconds": seconds, "width": width}
    options: dict[str, Any] = {"seed": seed, **{name: value for name, value in given.items() if value is not None}, **_options(option or [])}
    with open_workspace(workspace) as opened, progress("Explaining") as told:
        model = opened.model(version)
        chosen = _load(opened, model, data, start, rows, target)
        scope = "rows" if method is None else opened.registry.get("explainer", method).scope
        calls: dict[str, Any] = {"rows": opened.explain, "model": opened.explain_model, "changes": opened.counterfactuals}
        record: Any = calls[scope](model, chosen, method=method, report=lambda step: told(step.done, step.total), **options)
        if save is not None:
            record.save(save)
        if plot is not None:
            if not hasattr(record, "plot"):
                raise UsageError(f"There is no picture of what '{method}' gives.", hint="Leave out --plot.")
            record.plot(str(plot), **({} if kind is None else {"kind": kind}))
        if as_json:
            print_json(record.to_json())
            return
        shown = {"rows": _show_rows, "model": _show_model, "changes": _show_changes}
        shown[scope](opened, record)
    for what, path in (("Picture", plot), ("Record", save)):
        if path is not None:
            typer.echo(f"{what}: {path}")


def replay(
    record: Annotated[Path, typer.Argument(help="The record that --save, or Explanation.save, wrote.")],
    data: Data,
    rows: Rows = 5,
    start: Start = 0,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest relative deviation that passes; another machine may round otherwise.")] = 1e-9,
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Make a recorded explanation again from the same rows: bit-equal, or the largest deviation."""
    from affidavit.explaining import model_of

    with open_workspace(workspace) as opened:
        known = opened.service("read_explanation")(record, opened.verifier_key)
        model = model_of(opened, known)
        found = opened.replay(record, _load(opened, model, data, start, rows, None), model=model)
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(str(found))
    sys.exit(0 if found.bit_equal or found.relative_deviation <= tolerance else 1)


def _options(lines: list[str]) -> dict[str, Any]:
    """The method's own options; a value that is no JSON is text."""
    options: dict[str, Any] = {}
    for line in lines:
        name, sign, text = line.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"'{line}' is no option.", hint="Write name=value, for example grid=6 or game=path-dependent.")
        try:
            options[name.strip()] = json.loads(text)
        except ValueError:
            options[name.strip()] = text
    return options


def _load(workspace: Workspace, model: Model, path: Path, start: int, rows: int, target: str | None) -> Dataset:
    """The chosen rows, read with the types that the model was trained on."""
    types = {field.name: {"type": str(field.type)} for field in model.fitted.inputs}
    loaded = workspace.load(str(path), target=target, fields=types)
    if start >= len(loaded):
        raise UsageError(f"'{path}' has {len(loaded)} rows, so there is no row {start}.", hint="Rows are counted from 0.")
    return loaded.take(range(start, min(start + rows, len(loaded))))


def _show_rows(workspace: Workspace, record: Any) -> None:
    from rich.console import Console

    console = Console()
    draw = workspace.service("explanation_text")
    for row in range(min(len(record), SHOWN)):
        console.print(draw(record, row))
    if len(record) > SHOWN:
        typer.echo(f"{len(record) - SHOWN} more rows are not shown here; --save or --json give them all.")


def _show_model(workspace: Workspace, record: Any) -> None:
    if record.importance:
        ranked = sorted(record.importance.items(), key=lambda item: -abs(item[1].value))
        table = [[name, f"{m.value:.4g}", "" if m.low is None else f"{m.low:.4g} … {m.high:.4g}"] for name, m in ranked]
        print_table(f"{record.method}, {record.output}, {record.rows} rows", ["field", "importance", "95 % interval"], table)
    for number, rule in enumerate(record.rules, 1):
        typer.echo(visible(f"{number}. {rule}"))
    if record.fidelity:
        table = [[name, f"{m.value:.4g}", "" if m.low is None else f"{m.low:.4g} … {m.high:.4g}"] for name, m in record.fidelity.items()]
        print_table("How well it follows the model", ["measure", "value", "95 % interval"], table)
    if record.curves and not record.importance:
        typer.echo(f"{record.method} of {visible(', '.join(record.curves))}: --plot draws it, --json gives the numbers.")


def _show_changes(workspace: Workspace, record: Any) -> None:
    table = []
    for row, alternatives in enumerate(record.changes):
        for change in alternatives[:1]:
            table += [[row, name, now, then] for name, (now, then) in change.items()]
        if not alternatives:
            table.append([row, "no change found", "", ""])
    print_table(f"Nearest changes to {record.wanted}", ["row", "field", "now", "then"], table)
