"""What every command shares: the workspace option, JSON for machines, tables for people."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from affidavit.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Where = Annotated[str, typer.Option("--workspace", "-w", help="The workspace: a folder or a PostgreSQL URL.", envvar="AFFIDAVIT_WORKSPACE")]
DEFAULT_WORKSPACE = "workspace"


def print_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, whole: bool = False) -> None:
    """A table, with a row of cells each. Words longer than their column are cut, or where they are wanted `whole` go on in the next line."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # Text, not markup: names and values come from data, and a bracket in one is a bracket.
    table = Table(
        *(Column(name, overflow="fold" if whole else "ellipsis") for name in columns),
        title=Text(visible(title), style="italic"),
        title_justify="left",
    )
    for row in rows:
        table.add_row(*[Text(visible(str(cell))) for cell in row])
    Console().print(table)


def visible(text: str) -> str:
    """Control characters written out: a name or a value may come from data, and escape codes must not reach the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def open_workspace(location: str, **options: Any) -> Workspace:
    """Open a workspace that exists, and say what opening had to mend. Raises UsageError where there is none."""
    from affidavit.workspace import Workspace

    if "://" not in location and not (Path(location) / "workspace.db").exists():
        raise UsageError(f"'{location}' is no workspace.", hint="Name one with --workspace, or make one with: affidavit init FOLDER.")
    workspace = Workspace(location, **options)
    for line in workspace.recovered:
        sys.stderr.write(f"Recovered: {line}\n")
    return workspace


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal's standard error, moved by calling what this gives with how much is done and, where known, of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed:,}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
