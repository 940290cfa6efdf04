"""The commands around keys: what seals a workspace, rotation, re-wrapping, another provider, destroying old versions."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, print_table, progress
from affidavit.errors import UsageError

if TYPE_CHECKING:
    from affidavit.workspace import Workspace

keys_app = typer.Typer(help="The keys that seal a workspace: list, rotate, re-wrap, move to another provider, destroy.")

NEW_PASSPHRASE = "AFFIDAVIT_NEW_PASSPHRASE"
Who = Annotated[str | None, typer.Option("--actor", help="Who does it; default: the login name.")]


@keys_app.callback(invoke_without_command=True)
def keys(context: typer.Context, workspace: Where = DEFAULT_WORKSPACE, as_json: Json = False) -> None:
    """The key provider, the identity, and each key version with what is sealed under it."""
    if context.invoked_subcommand is not None:
        return
    with open_workspace(workspace) as opened:
        status = _keys(opened).status()
    if as_json:
        print_json(status)
        return
    settings = ", ".join(f"{name} {value}" for name, value in status["provider"].items() if name != "type")
    typer.echo(f"Provider: {status['provider']['type']}{f' ({settings})' if settings else ''}\nIdentity: {status['identity']}")
    names = ("version", "key_id", "state", "created", "objects")
    rows = [[str(version.get(name, ""))[: 19 if name == "created" else None] for name in names] for version in status["versions"]]
    print_table("Key versions", [*names], rows)


@keys_app.command()
def rotate(workspace: Where = DEFAULT_WORKSPACE, actor: Who = None, as_json: Json = False) -> None:
    """Make a new key version; everything new is sealed under it."""
    with open_workspace(workspace, actor=actor) as opened:
        version = _keys(opened).rotate()
    if as_json:
        print_json(version.to_json())
    else:
        typer.echo(f"Key version {version.number} ({version.key_id}) is active. Move what is under older ones: affidavit keys rewrap")


@keys_app.command()
def rewrap(workspace: Where = DEFAULT_WORKSPACE, actor: Who = None, as_json: Json = False) -> None:
    """Bring everything under the active key version. It may be stopped and run again."""
    with open_workspace(workspace, actor=actor) as opened:
        if as_json:
            moved = _keys(opened).rewrap()
            print_json({"moved": moved})
            return
        with progress("re-wrapping") as told:
            moved = _keys(opened).rewrap(told)
    typer.echo(f"{moved} moved under the active key version.")


@keys_app.command()
def provider(
    name: Annotated[str, typer.Argument(help="passphrase, environment, file, pkcs11, aws_kms, vault, or a plugin's.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the provider, name=value; repeatable.")] = None,
    workspace: Where = DEFAULT_WORKSPACE,
    actor: Who = None,
    as_json: Json = False,
) -> None:
    """Seal the workspace's secrets through another key provider; only keyring.json changes."""
    from affidavit.interfaces.keys import parse_settings

    with open_workspace(workspace, actor=actor) as opened:
        label = _keys(opened).provide(name, parse_settings(settings or []), passphrase=_new_passphrase() if name == "passphrase" else None)
    if as_json:
        print_json({"provider": name, "label": label})
    else:
        typer.echo(f"{label} opens the workspace from now on. A backup of keyring.json from before still opens with the old one.")


@keys_app.command()
def destroy(
    version: Annotated[int, typer.Argument(help="The number of a retired version that nothing is under.")],
    workspace: Where = DEFAULT_WORKSPACE,
    actor: Who = None,
    as_json: Json = False,
) -> None:
    """Destroy a retired key version. Old copies of what was sealed under it can never be opened again."""
    with open_workspace(workspace, actor=actor) as opened:
        gone = _keys(opened).destroy(version)
    if as_json:
        print_json(gone.to_json())
    else:
        typer.echo(f"Key version {gone.number} ({gone.key_id}) is destroyed.")


def _keys(workspace: Workspace) -> Any:
    return workspace.service("keys")(workspace)


def _new_passphrase() -> str:
    given = os.environ.get(NEW_PASSPHRASE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the new passphrase.", hint=f"Set {NEW_PASSPHRASE}.")
    return str(typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True))
