"""The command line: tables and progress for people, ``--json`` for machines; exit code 0 done, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, print_table, visible
from affidavit.cli.conformance import check_plugin
from affidavit.cli.explain import add_commands as add_explain_commands
from affidavit.cli.files import add_commands as add_file_commands
from affidavit.cli.keys import keys_app
from affidavit.cli.masking import add_commands as add_masking_commands
from affidavit.cli.privacy import budget_app, privacy_app
from affidavit.cli.reveal import reveal, shred
from affidavit.cli.scaffold import new_plugin
from affidavit.errors import AffidavitError, Refused, UsageError

app = typer.Typer(
    name="affidavit",
    help="Governed machine learning: no model leaves without its affidavit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
approver_app = typer.Typer(help="Make approver keys, and enrol people in a workspace.", no_args_is_help=True)
app.add_typer(approver_app, name="approver")
app.add_typer(budget_app, name="budget")
app.add_typer(keys_app, name="keys")
app.add_typer(privacy_app, name="privacy")
app.command("check-plugin")(check_plugin)
app.command("new-plugin")(new_plugin)
app.command()(reveal)
app.command()(shred)
add_explain_commands(app)
add_file_commands(app)
add_masking_commands(app)


def main() -> None:
    """Run the command line; every deliberate error becomes one message and its exit code."""
    try:
        app()
    except AffidavitError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(1)


def _fail(error: AffidavitError) -> None:
    kind = "Refused" if isinstance(error, Refused) else "Error"
    if "--json" in sys.argv:
        body: dict[str, Any] = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, Refused):
            body |= {"by": error.by, "line": error.line, "measured": error.measured, "bound": error.bound}
        sys.stdout.write(json.dumps(body) + "\n")
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold red]{kind}:[/] {escape(visible(error.message))}")
        if isinstance(error, Refused):
            console.print(f"  Policy line: {escape(error.line)}")
        if error.hint:
            console.print(f"  Next: {escape(visible(error.hint))}")
    sys.exit(error.exit_code)


@app.command()
def init(
    workspace: Annotated[str, typer.Argument(help="The workspace to make: a folder or a PostgreSQL URL.")] = DEFAULT_WORKSPACE,
    policy: Annotated[Path | None, typer.Option(help="The policy file to put in force.")] = None,
    as_json: Json = False,
) -> None:
    """Make a workspace: its database, its keys and its ledger."""
    from affidavit.workspace import Workspace

    if "://" not in workspace and (Path(workspace) / "workspace.db").exists():
        raise UsageError(f"'{workspace}' is a workspace already.", hint="Name another place.")
    with Workspace(workspace, policy=policy) as made:
        key = made.verifier_key
    if as_json:
        print_json({"workspace": workspace, "verifier_key": key})
        return
    typer.echo(f"Made workspace {workspace}. Auditors verify its bundles with --key {key}")


@app.command()
def run(
    project: Annotated[Path, typer.Argument(help="The project file.")],
    out: Annotated[Path | None, typer.Option(help="Folder for workspace, report and bundle; default: 'out' beside the project.")] = None,
    as_json: Json = False,
) -> None:
    """Run a whole job from one file: load, mask, train, evaluate, explain, register, approve, deploy, report, verify."""
    from affidavit.interfaces.training import Progress as Report
    from affidavit.project import Job, Step

    if as_json:
        result = Job(project, out=out).run()
        steps = [{"step": step.name, "result": step.result, "seconds": round(step.seconds, 3)} for step in result.steps]
        print_json(
            {
                "steps": steps,
                "version": result.version,
                "metrics": result.metrics,
                "report": result.report,
                "bundle": result.bundle,
                "key": result.verifier_key,
            }
        )
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description:<21}"), BarColumn(), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, note="")

        def on_step(step: Step) -> None:
            if math.isnan(step.seconds):  # it has just begun
                bar.reset(task, description=step.name, total=None, note="")
            else:
                line = f"[green]✓[/] [bold]{step.name:<21}[/] [dim]{step.seconds:6.1f} s[/]  {escape(step.result)}"
                console.print(line, highlight=False, soft_wrap=True)

        def on_progress(progress: Report) -> None:
            bar.update(task, total=progress.total, completed=progress.done, note=progress.message)

        result = Job(project, out=out, on_step=on_step, on_progress=on_progress).run()
    for label, value in (("Report", result.report), ("Bundle", result.bundle)):
        console.print(f"{label}:  {escape(str(value))}", highlight=False, soft_wrap=True)
    command = f"affidavit verify {shlex.quote(str(result.bundle))} --key '{result.verifier_key}'"
    console.print(f"Verify:  {escape(command)}", highlight=False, soft_wrap=True)


@app.command()
def plugins(workspace: Annotated[str | None, typer.Option("--workspace", "-w")] = None, as_json: Json = False) -> None:
    """What is installed, what failed to load and why."""
    from affidavit.plugins import PluginManager

    if workspace is not None:
        with open_workspace(workspace) as opened:
            _show_plugins(opened.plugins, as_json)
        return
    manager = PluginManager()
    manager.load_plugins()
    _show_plugins(manager, as_json)


def _show_plugins(manager: Any, as_json: bool) -> None:
    loaded = [
        {
            "name": info.name,
            "distribution": info.distribution,
            "version": info.version,
            "digest": info.digest,
            "altered": info.altered,
            "provides": [f"{entry.kind}:{entry.name}" for entry in info.registrations] or ([f"stage:{info.stage.name}"] if info.stage else []),
        }
        for info in manager.plugins
    ]
    failed = [{"name": failure.name, "distribution": failure.distribution, "reason": failure.reason} for failure in manager.failures]
    if as_json:
        print_json({"plugins": loaded, "failures": failed})
        return
    print_table(
        "Plugins",
        ["name", "distribution", "files", "provides"],
        [[p["name"], f"{p['distribution']} {p['version']}", _files(p), ", ".join(p["provides"])] for p in loaded],
        whole=True,
    )
    if failed:
        print_table("Not loaded", ["name", "distribution", "reason"], [[f["name"], f["distribution"], f["reason"]] for f in failed], whole=True)


def _files(plugin: dict[str, Any]) -> str:
    if plugin["altered"]:
        return f"altered: {plugin['altered']}"
    return str(plugin["digest"])[:12] if plugin["digest"] else "editable"


@app.command()
def log(workspace: Where = DEFAULT_WORKSPACE, as_json: Json = False) -> None:
    """The ledger: every piece of evidence, oldest first."""
    with open_workspace(workspace) as opened:
        rows = [
            {
                "index": entry.index,
                "kind": entry.kind,
                "phase": entry.predicate.get("phase", ""),
                "status": entry.predicate.get("status") or "",
                "time": entry.predicate.get("finished") or entry.predicate.get("started", ""),
                "leaf": entry.leaf_hash,
            }
            for entry in opened.ledger.entries()
        ]
    if as_json:
        print_json(rows)
        return
    print_table("Ledger", ["#", "kind", "phase", "status", "time", "leaf"], [[*list(row.values())[:5], row["leaf"][:12]] for row in rows])


@app.command()
def models(workspace: Where = DEFAULT_WORKSPACE, as_json: Json = False) -> None:
    """Registered versions and their aliases."""
    with open_workspace(workspace) as opened:
        versions = opened.versions.list()
        aliases = {name: opened.versions.aliases(name) for name in {version.name for version in versions}}
    rows = [
        {
            "version": str(version),
            "type": version.model_type,
            "aliases": [alias for alias, number in aliases[version.name].items() if number == version.number],
            "artifact": version.artifact,
        }
        for version in versions
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        "Models", ["version", "type", "aliases", "artifact"], [[r["version"], r["type"], ", ".join(r["aliases"]), r["artifact"][:12]] for r in rows]
    )


@app.command()
def approve(
    version: Annotated[str, typer.Argument(help="For example credit-risk:1.")],
    alias: Annotated[str, typer.Argument(help="For example production.")],
    name: Annotated[str, typer.Option(help="Who approves.")],
    key: Annotated[Path, typer.Option(help="The approver's private key file.")],
    workspace: Where = DEFAULT_WORKSPACE,
) -> None:
    """Approve one version for one alias."""
    from affidavit.approver import Approver

    with open_workspace(workspace, actor=name) as opened:
        opened.approve(version, alias, approver=Approver.read(name, key))
    typer.echo(f"{name} approved {version} for {alias}.")


@app.command()
def promote(version: str, alias: str, workspace: Where = DEFAULT_WORKSPACE) -> None:
    """Point an alias at a version, if the policy's gates and approvals allow."""
    with open_workspace(workspace) as opened:
        opened.promote(version, alias)
    typer.echo(f"{version} is {alias}.")


@app.command()
def serve(
    version: Annotated[str, typer.Argument(help="For example credit-risk@production.")],
    host: str = "127.0.0.1",
    port: int = 8080,
    api_key: Annotated[str | None, typer.Option(envvar="AFFIDAVIT_API_KEY", help="Required off loopback.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
) -> None:
    """Serve a promoted version over HTTP (Open Inference Protocol v2) until interrupted."""
    import threading

    with open_workspace(workspace) as opened, opened.deploy(version, target="http", host=host, port=port, api_key=api_key) as endpoint:
        typer.echo(f"Serving {version} at {endpoint.url}; stop with Ctrl-C.")
        threading.Event().wait()


@app.command()
def report(path: Annotated[Path, typer.Argument(help="The HTML file to write.")], workspace: Where = DEFAULT_WORKSPACE) -> None:
    """Write the report: one self-contained HTML file."""
    with open_workspace(workspace) as opened:
        typer.echo(f"Report: {opened.report(path)}")


@app.command()
def bundle(path: Annotated[Path, typer.Argument(help="The zip file to write.")], workspace: Where = DEFAULT_WORKSPACE) -> None:
    """Write the bundle that an auditor gets."""
    with open_workspace(workspace) as opened:
        typer.echo(f"Bundle: {opened.bundle(path)}\nKey:    {opened.verifier_key}")


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="The bundle.")],
    key: Annotated[str | None, typer.Option(help="The workspace's verifier key, received by another road than the bundle.")] = None,
    allow_unanchored: Annotated[
        bool, typer.Option(help="Accept the key that the bundle itself carries: it proves nothing about who wrote it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a bundle offline: signatures, digests, proofs. Needs the core install only."""
    from affidavit.plugins import load_service

    result = load_service("verify")(path, key, allow_unanchored=allow_unanchored)
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(str(result))
    sys.exit(0 if result.ok else 1)


@approver_app.command("new")
def approver_new(name: str, out: Annotated[Path, typer.Option(help="The private key file to write.")]) -> None:
    """Make a key pair for a person who approves."""
    from affidavit.approver import Approver

    approver = Approver.create(name, out)
    typer.echo(f"Private key of {name}: {out} (keep it; nobody else needs it)\nPublic key: {approver.public_key.hex()}")


@approver_app.command("enrol")
def approver_enrol(
    name: str,
    public_key: Annotated[str, typer.Argument(help="Hex, as 'affidavit approver new' printed it.")],
    role: Annotated[list[str], typer.Option(help="A role that the person has; repeatable.")],
    workspace: Where = DEFAULT_WORKSPACE,
) -> None:
    """Enter a person's public key and roles in a workspace."""
    try:
        key = bytes.fromhex(public_key)
    except ValueError:
        raise UsageError("The public key is not hexadecimal.", hint="Copy what 'affidavit approver new' printed.") from None
    with open_workspace(workspace) as opened:
        opened.enrol(key, name=name, roles=role)
    typer.echo(f"{name} may approve as {', '.join(role)}.")
