"""The commands around privacy: what each data set has spent, settling, calculators, and the privacy/utility curve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, print_table
from affidavit.errors import UsageError

budget_app = typer.Typer(help="What each data set has spent of its privacy budget, and has left.")
privacy_app = typer.Typer(help="Privacy by numbers: ε of a mechanism, σ for an ε, and what privacy costs in quality.", no_args_is_help=True)

Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it into this file: .png or .svg.")]
Rate = Annotated[float, typer.Option("--rate", help="Sampling rate q: expected batch size over number of records.")]
Steps = Annotated[int, typer.Option("--steps", help="Number of steps: epochs times steps per epoch.")]
Delta = Annotated[float, typer.Option("--delta", help="δ, well below one over the number of records.")]
RelationOption = Annotated[str, typer.Option("--relation", help="What neighbours differ in: add-or-remove-one or replace-one.")]
IMAGES = (".png", ".svg")


@budget_app.callback(invoke_without_command=True)
def budget(context: typer.Context, workspace: Where = DEFAULT_WORKSPACE, plot: Plot = None, as_json: Json = False) -> None:
    """What each data set has spent of its privacy budget, and has left."""
    if context.invoked_subcommand is not None:
        return
    _check_image(plot)
    with open_workspace(workspace) as opened:
        rows = opened.budget()
        if plot is not None:
            opened.service("budget_plot")(opened.service("budget")(opened.store).history(), plot)
    if as_json:
        print_json(rows)
        return
    columns = ("spent", "reserved", "left", "limit", "delta", "runs", "unsettled")
    table = [[row["root"][:12], *(f"{row[name]:.4g}" if isinstance(row[name], float) else row[name] for name in columns)] for row in rows]
    print_table("Privacy budgets" if rows else "Privacy budgets: nothing spent yet", ["data set", *columns], table)
    for call in dict.fromkeys(call for row in rows for call in row["unsettled_calls"]):
        typer.echo(f"Unsettled: {call}, which is under way or died. If it died: affidavit budget settle {call} --reason '…'")
    if plot is not None:
        typer.echo(f"Plot: {plot}")


@budget_app.command()
def settle(
    call: Annotated[str, typer.Argument(help="The call, as 'affidavit budget' shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in evidence, so name no personal data.")],
    nothing_ran: Annotated[bool, typer.Option("--nothing-ran", help="Give it back, on your word that nothing ran.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="The folder of the run's checkpoint, which counts its steps.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who settles; default: the login name.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Settle what a dead process had reserved: as spent, unless it is known that less ran."""
    with open_workspace(workspace, actor=actor) as opened:
        opened.settle(call, reason=reason, nothing_ran=nothing_ran, checkpoint=checkpoint)
        rows = opened.budget()
    if as_json:
        print_json(rows)
    else:
        typer.echo(f"Settled {call} {'as nothing that ran' if nothing_ran else 'as spent'}; evidence says so.")


@privacy_app.command()
def epsilon(
    rate: Rate,
    sigma: Annotated[float, typer.Option(help="Noise multiplier σ: the noise's standard deviation over the clipping bound.")],
    steps: Steps,
    delta: Delta = 1e-5,
    relation: RelationOption = "add-or-remove-one",
    as_json: Json = False,
) -> None:
    """ε of training with the given sampling rate, noise and steps."""
    found = _service("privacy_epsilon")(rate, sigma, steps, delta, relation=relation)
    value = {"epsilon": found, "delta": delta, "rate": rate, "sigma": sigma, "steps": steps, "relation": relation}
    _print(value, f"ε = {found:.4g} at δ = {delta:g}", as_json)


@privacy_app.command()
def calibrate(
    epsilon: Annotated[float, typer.Option(help="The ε to reach.")],
    rate: Rate,
    steps: Steps,
    delta: Delta = 1e-5,
    relation: RelationOption = "add-or-remove-one",
    as_json: Json = False,
) -> None:
    """The smallest noise multiplier σ with which training costs at most an ε."""
    found = _service("privacy_calibrate")(epsilon, sampling_rate=rate, steps=steps, delta=delta, relation=relation)
    value = {"sigma": found, "epsilon": epsilon, "delta": delta, "rate": rate, "steps": steps, "relation": relation}
    _print(value, f"σ = {found:.4g}", as_json)


@privacy_app.command()
def sweep(
    project: Annotated[Path, typer.Argument(help="The project file.")],
    epsilon: Annotated[str, typer.Option(help="The ε of the runs, separated by commas; none above the policy's.")],
    repeats: Annotated[int, typer.Option(help="Runs at each ε, each of which is charged.")] = 1,
    metric: Annotated[str | None, typer.Option(help="What to measure; default: the first of roc_auc, accuracy, r2 and rmse there is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the project's workspace; default: 'out' beside the project.")] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """What privacy costs in quality: train at each ε, measure, and charge every run to the data set's budget."""
    _check_image(plot)

    def on_run(epsilon: float, repeat: int, value: float) -> None:
        if not as_json:
            typer.echo(f"ε = {epsilon:g}, run {repeat + 1} of {repeats}: {value:.4g}")

    curve = _service("privacy_sweep")(project, _numbers(epsilon), repeats=repeats, metric=metric, out=out, on_run=on_run)
    if plot is not None:
        _service("sweep_plot")([point.to_json() for point in curve.points], curve.metric, plot)
    if as_json:
        print_json(curve.to_json())
        return
    rows = [
        [f"{p.epsilon:g}", f"{p.value:.4g}", "" if p.low is None else f"{p.low:.4g} to {p.high:.4g}", f"{max(p.spent):.4g}", len(p.values)]
        for p in curve.points
    ]
    print_table("Quality against privacy", ["ε", curve.metric, "95 % interval", "ε spent a run", "runs"], rows)
    for root, spent in curve.joint.items():
        typer.echo(f"Data set {root[:12]} has spent ε {spent:.4g} at δ = {curve.delta:g}, all runs together.")
    typer.echo("The figures are read from the test rows without noise: they are not private.")
    if plot is not None:
        typer.echo(f"Plot: {plot}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"'{text[:80]}' is no list of numbers.", hint="For example --epsilon 0.5,1,2.") from None


def _service(name: str) -> Any:
    from affidavit.plugins import bundled_registry

    return bundled_registry().get("service", name)


def _print(value: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def _check_image(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in IMAGES:
        raise UsageError(f"'{path.name}' is no image file that can be drawn.", hint=f"Use one of: {', '.join(IMAGES)}.")
