"""The command that begins a plugin: ``affidavit new-plugin``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli.common import Json, print_json


def new_plugin(
    name: Annotated[str, typer.Argument(help="The distribution's name, for example acme-models.")],
    kind: Annotated[str, typer.Option(help="model, dataset, target, recognizer, operator, key-provider or explainer.")],
    folder: Annotated[Path | None, typer.Option(help="Where to write it; default: a new folder of the name.")] = None,
    as_json: Json = False,
) -> None:
    """Write a plugin project that passes the conformance kit. Nothing is overwritten."""
    from affidavit.scaffold import new_plugin as write

    project = write(name, kind, folder)
    place = shlex.quote(str(project.folder))
    steps = [f"cd {place}", "pip install -e '.[dev]'", f"affidavit check-plugin {project.name}", "pytest", "python -m hatchling build"]
    if as_json:
        parts = {"name": project.name, "package": project.package, "kind": project.kind, "registered": project.registered}
        print_json({**parts, "folder": str(project.folder), "files": list(project.files), "next": steps})
        return
    typer.echo(f"Wrote {project.folder}, which registers the {project.kind} {project.registered}:")
    for path in project.files:
        typer.echo(f"  {path}")
    typer.echo("Next:")
    for step in steps:
        typer.echo(f"  {step}")
