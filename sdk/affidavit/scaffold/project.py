"""Writing a plugin project: templates filled in, in a folder that is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template

from packaging.requirements import Requirement

import affidavit
from affidavit.errors import AffidavitError, UsageError, nearest
from affidavit.scaffold.kinds import KINDS, Kind
from affidavit.scaffold.names import package_of


@dataclass(frozen=True, slots=True)
class Project:
    """A project that was written.

    Attributes
    ----------
    name, package
        Of the distribution, and of what it imports as.
    kind
        As ``--kind`` names it.
    registered
        The name under which users ask for it.
    folder
        Where it is.
    files
        What is in it, by path from there.
    """

    name: str
    package: str
    kind: str
    registered: str
    folder: Path
    files: tuple[str, ...]


def new_plugin(name: str, kind: str, folder: Path | None = None) -> Project:
    """Write a plugin project that passes the conformance kit.

    Parameters
    ----------
    name
        Of the distribution; the package's name is made from it.
    kind
        One of `affidavit.scaffold.KINDS`.
    folder
        Where to write it; default: a new folder of the name, here.

    Raises
    ------
    UsageError
        There is no such kind, the name is none or is taken, the folder exists, or the folder above it does not.
    AffidavitError
        The folder cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"There is no kind of plugin '{kind}'.{nearest(kind, KINDS)}", hint=f"Kinds: {', '.join(KINDS)}.")
    package = package_of(name)
    place = Path(name) if folder is None else folder
    registered = f"{package}.{KINDS[kind].thing}"
    files = _files(kind, name, package, registered)
    _write(place, files)
    return Project(name, package, kind, registered, place, tuple(sorted(files)))


def _files(kind: str, name: str, package: str, registered: str) -> dict[str, str]:
    """The content of each file by its path."""
    about = KINDS[kind]
    capabilities = ", ".join(f'"{each}"' for each in about.capabilities)
    values = {
        **{slot: str(getattr(about, slot)) for slot in ("noun", "description", "registry", "module", "cls", "case", "suite")},
        "name": name,
        "package": package,
        "registered": registered,
        "variable": package.upper(),
        "dependencies": "\n".join(f'    "{line}",' for line in _dependencies(about)),
        "capabilities": f"\n        capabilities=[{capabilities}]," if capabilities else "",
    }
    values["change"] = _filled(f"{kind}/change.md.tmpl", values).strip()
    source = f"src/{package}"
    wanted = {
        "pyproject.toml": "shared/pyproject.toml.tmpl",
        "README.md": "shared/README.md.tmpl",
        f"{source}/__init__.py": "shared/__init__.py.tmpl",
        f"{source}/py.typed": "shared/py.typed.tmpl",
        f"{source}/plugin.py": "shared/plugin.py.tmpl",
        f"{source}/{about.module}.py": f"{kind}/{about.module}.py.tmpl",
        f"{source}/conformance.py": f"{kind}/conformance.py.tmpl",
        "tests/test_conformance.py": "shared/test_conformance.py.tmpl",
    }
    return {path: _filled(template, values) for path, template in wanted.items()}


def _filled(template: str, values: dict[str, str]) -> str:
    text = resources.files(__package__).joinpath("templates", *template.split("/")).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _dependencies(about: Kind) -> list[str]:
    """Affidavit from this version on, and what the code imports besides, from the versions on that Affidavit itself asks for."""
    bounds = {need.name: str(need) for need in map(Requirement, metadata.requires("affidavit") or []) if need.marker is None}
    return [f"affidavit>={affidavit.__version__}", *(bounds.get(name, name) for name in about.needs)]


def _write(folder: Path, files: dict[str, str]) -> None:
    if os.path.lexists(folder):
        raise UsageError(f"'{folder}' exists already; nothing is overwritten.", hint="Name another place: --folder FOLDER.")
    if not folder.parent.is_dir():
        raise UsageError(f"There is no folder '{folder.parent}'.", hint="Make it first.")
    # Written beside its place and then renamed: whoever stops this finds no half project under the name.
    draft = folder.parent / f".new-plugin-{secrets.token_hex(8)}"
    try:
        for path, content in files.items():
            place = draft / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8", newline="\n")
        draft.rename(folder)
    except OSError as error:
        raise AffidavitError(f"'{folder}' cannot be written: {error.strerror}.", hint="Name another place: --folder FOLDER.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
