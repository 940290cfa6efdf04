"""The commands that show originals again, and that make sure that nobody ever does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, print_table
from affidavit.errors import UsageError


def reveal(
    source: Annotated[Path, typer.Argument(help="The masked file: CSV, Parquet, JSON lines or Arrow.")],
    target: Annotated[Path, typer.Argument(help="The file with originals; only you may read it.")],
    purpose: Annotated[str, typer.Option(help="What for, as a rule of masking.reveal names it.")],
    name: Annotated[str, typer.Option(help="Who asks.")],
    key: Annotated[Path, typer.Option(help="That person's private key file.")],
    field: Annotated[
        list[str] | None, typer.Option(help="A column, or column=ENTITY where the ledger does not know the rows; repeatable. Default: all.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Name of the data set that was masked; default: the file's name.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Put originals in the place of what masked them, if the policy's masking.reveal allows it. The ledger says who saw what, and why."""
    from affidavit.approver import Approver

    fields = None if not field else dict(part.partition("=")[::2] for part in field)
    with open_workspace(workspace) as opened:
        done = opened.service("reveal_file")(opened, source, target, purpose=purpose, by=Approver.read(name, key), fields=fields, table=table)
    if as_json:
        print_json(done)
        return
    print_table(
        f"{done['rows']} rows written to {target}",
        ["column", "unreadable (key destroyed)"],
        [[c, done["unreadable"].get(c, 0)] for c in done["columns"]],
    )


def shred(
    subject: Annotated[str, typer.Argument(help="The subject's id, as in the column that the policy names; '-' reads it from standard input.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in evidence, so name no personal data.")],
    name: Annotated[list[str], typer.Option(help="Who asks; repeatable, each with a --key.")],
    key: Annotated[list[Path], typer.Option(help="That person's private key file; repeatable.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the receipt to this JSON file.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Destroy the key of one subject. What was sealed with it can never be read again; there is no way back."""
    from affidavit.approver import Approver

    if len(name) != len(key):
        raise UsageError(f"{len(name)} names and {len(key)} keys were given.", hint="Each --name has its --key.")
    # The id of a person does not belong into the shell's history or the list of processes.
    person = sys.stdin.readline().rstrip("\r\n") if subject == "-" else subject
    with open_workspace(workspace) as opened:
        done = opened.shred(person, reason=reason, by=[Approver.read(who, path) for who, path in zip(name, key, strict=True)])
    if receipt is not None:
        done.write(receipt)
    if as_json:
        print_json(done.to_json())
        return
    typer.echo(
        f"The key was destroyed {'before, at' if done.already else 'at'} {done.destroyed}; {done.vault_rows} rows of the vault were emptied.\n"
        f"Subject: {done.subject}\nEvidence: call {done.call}"
    )
    if done.storage == "pending":
        typer.echo("The database's log still holds old pages, because somebody is reading it. Run this again when nobody is.")
