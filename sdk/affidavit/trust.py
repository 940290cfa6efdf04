"""Which installed distributions may provide plugins: decided from their metadata and files, before any of their code is imported."""

from __future__ import annotations

import hashlib
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

import affidavit
from affidavit.errors import UsageError

_MADE_HERE = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
"""Files of a dist-info folder that the installer writes on this machine: they are not the wheel's."""

_CODE = frozenset({".py", ".so", ".pyd"})

_BUNDLED = frozenset({"affidavit", "affidavit_governance", "affidavit_plugins"})


@dataclass(frozen=True, slots=True)
class Allowed:
    """One line of the policy's ``plugins.allow``: a distribution, its versions, its digest.

    Written ``acme-models``, ``acme-models==1.2``, ``acme-models>=1,<2`` or ``acme-models==1.2@sha256:…``.
    """

    name: str
    requirement: Requirement
    digest: str | None

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line. Raises UsageError where it is none."""
        text, _, digest = line.partition("@sha256:")
        hint = "Write a name, a name with versions (acme-models>=1,<2), or both with @sha256: and 64 hexadecimal digits."
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise UsageError(f"'{line}' names no distribution.", hint=hint) from None
        if requirement.extras or requirement.url or requirement.marker or ("@sha256:" in line and not re.fullmatch("[0-9a-f]{64}", digest)):
            raise UsageError(f"'{line}' names no distribution.", hint=hint)
        return cls(canonicalize_name(requirement.name), requirement, digest or None)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an installed distribution says of itself, and what its files are.

    Attributes
    ----------
    digest
        Hex SHA-256 over the sorted lines ``<SHA-256 of the file>  <path>`` of the files that its wheel brought, the same on every machine; None
        where the installation keeps no record of them, as an editable one does.
    altered
        The first file that is not what was installed, or stands among the installed code without having been; None where there is none.
    """

    name: str
    version: str
    digest: str | None
    altered: str | None

    @classmethod
    def of(cls, distribution: metadata.Distribution) -> Self:
        """Read the installed files of `distribution`."""
        lines: list[str] = []
        altered: str | None = None
        files = _wheel_files(distribution)
        for path in files:
            try:
                content = distribution.locate_file(path).read_bytes()  # type: ignore[attr-defined]  # a pathlib path for installed distributions
            except OSError:
                altered = altered or str(path)
                continue
            digest = hashlib.sha256(content).digest()
            if path.hash is not None and path.hash.mode == "sha256" and path.hash.value != urlsafe_b64encode(digest).rstrip(b"=").decode():
                altered = altered or str(path)
            lines.append(f"{digest.hex()}  {PurePosixPath(path)}\n")
        listed = bool(files) and not _is_editable(distribution)
        whole = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if listed else None
        return cls(name_of(distribution), version_of(distribution), whole, altered or (_stowaway(distribution, files) if listed else None))


Places = tuple[tuple[str, int], ...]


def places() -> Places:
    """Where distributions are looked for, and when something was last installed or removed there, in nanoseconds: as `importlib` itself does
    to keep what it listed."""
    return tuple((path, Path(path or ".").stat().st_mtime_ns if Path(path or ".").exists() else 0) for path in sys.path)


@lru_cache(maxsize=4)
def installed_entry_points(where: Places) -> Any:  # its class depends on Python's version
    """All entry points, kept while `where` (see `places`) stays: it takes a file of every distribution."""
    return metadata.entry_points()


class Trust:
    """The policy's list, asked once for each distribution."""

    def __init__(self, allow: Iterable[str]) -> None:
        self._allowed: dict[str, list[Allowed]] = {}
        for line in allow:
            allowed = Allowed.parse(line)
            self._allowed.setdefault(allowed.name, []).append(allowed)
        self._known: dict[str, Provenance] = {}
        self._refusals: dict[metadata.Distribution | None, str | None] = {}

    def provenance(self, distribution: metadata.Distribution | None) -> Provenance:
        """What is known of `distribution`."""
        if distribution is None:
            return Provenance("unknown", "unknown", None, None)
        name = canonicalize_name(name_of(distribution))
        if name not in self._known:
            self._known[name] = Provenance.of(distribution)
        return self._known[name]

    def refusal(self, distribution: metadata.Distribution | None) -> str | None:
        """Why plugins of `distribution` are not imported; None where they may be."""
        if distribution not in self._refusals:
            self._refusals[distribution] = self._refusal(distribution)
        return self._refusals[distribution]

    def _refusal(self, distribution: metadata.Distribution | None) -> str | None:
        name = name_of(distribution)
        lines = self._allowed.get(canonicalize_name(name))
        if not lines or distribution is None:
            return f"distribution '{name}' is not in the policy's plugins.allow"
        version = version_of(distribution)
        fitting = [line for line in lines if _fits(line.requirement, version)]
        if not fitting:
            wanted = " or ".join(f"'{line.requirement}'" for line in lines)
            return f"distribution '{name}' is installed in version {version}, and the policy's plugins.allow wants {wanted}"
        unfit = _unfit_sdk(distribution)
        if unfit is not None:
            return unfit
        if all(line.digest is not None for line in fitting):
            return self._unpinned(name, {line.digest for line in fitting}, self.provenance(distribution))
        return None

    def _unpinned(self, name: str, digests: set[str | None], found: Provenance) -> str | None:
        if found.altered is not None:
            return f"'{found.altered}' of distribution '{name}' is not what was installed"
        if found.digest is None:
            return f"distribution '{name}' has no record of its files (an editable installation?), so its digest cannot be checked"
        if found.digest not in digests:
            return f"distribution '{name}' has the digest {found.digest}, which is not the one in the policy's plugins.allow"
        return None


@lru_cache(maxsize=64)
def _described(distribution: metadata.Distribution) -> metadata.PackageMetadata:
    """The metadata of `distribution`, kept: `importlib.metadata` parses its whole description anew for each field that is asked for."""
    return distribution.metadata


def name_of(distribution: metadata.Distribution | None) -> str:
    """The name of `distribution`."""
    return "unknown" if distribution is None else str(_described(distribution)["Name"] or "unknown")


def version_of(distribution: metadata.Distribution) -> str:
    """The version of `distribution`."""
    return str(_described(distribution)["Version"])


def _unfit_sdk(distribution: metadata.Distribution) -> str | None:
    """Why this SDK is not one that `distribution` was written for, by what it requires of `affidavit`."""
    for line in _described(distribution).get_all("Requires-Dist") or distribution.requires or ():  # the latter also reads eggs
        if not line.lower().startswith("affidavit"):  # parsing all lines would take a third of the time in which a workspace opens
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            return f"its requirement '{line}' is none that can be read"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) == "affidavit" and applies and not _fits(requirement, affidavit.__version__):
            return f"it requires affidavit{requirement.specifier}, and this is affidavit {affidavit.__version__}"
    return None


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except (InvalidVersion, TypeError):  # none, where the installation is broken
        return not requirement.specifier


def _wheel_files(distribution: metadata.Distribution) -> list[metadata.PackagePath]:
    """The files that the wheel brought: without what the installer wrote, compiled copies, and scripts, which name this machine's interpreter."""
    return [
        path
        for path in distribution.files or ()
        if path.suffix != ".pyc" and ".." not in path.parts and not (path.parent.name.endswith(".dist-info") and path.name in _MADE_HERE)
    ]


def _is_editable(distribution: metadata.Distribution) -> bool:
    return any(path.suffix == ".pth" for path in distribution.files or ())


def _stowaway(distribution: metadata.Distribution, files: list[metadata.PackagePath]) -> str | None:
    """A file of code in one of the distribution's own folders that it did not bring."""
    known = {str(PurePosixPath(path)) for path in files}
    for folder in sorted({path.parent for path in files if len(path.parts) > 1 and not path.parts[0].endswith((".dist-info", ".data"))}):
        place = distribution.locate_file(folder)
        for found in sorted(place.iterdir()):  # type: ignore[attr-defined]  # as above
            if found.suffix in _CODE and str(PurePosixPath(folder) / found.name) not in known:
                return str(PurePosixPath(folder) / found.name)
    return None


def owner_of(module: str, distribution: metadata.Distribution) -> str | None:
    """Whose the file of `module` is, in words, where it is not one of `distribution`; None where it is, or may be.

    A distribution that keeps no record of its files, as an editable one, may own whatever no other distribution and not Python itself owns.
    """
    top, name = module.partition(".")[0], canonicalize_name(name_of(distribution))
    if top in _BUNDLED:
        return None if name == "affidavit" else "part of 'affidavit'"
    if top in sys.stdlib_module_names:
        return "part of Python"
    listed = distribution.files is not None and not _is_editable(distribution)
    if listed and module in _modules(distribution):
        return None
    others = sorted({canonicalize_name(owner) for owner in _packages(places()).get(top, ())} - {name})
    if others:
        return f"part of '{others[0]}'"
    return "no file of its own" if listed else None


@lru_cache(maxsize=4)
def _packages(where: Places) -> Mapping[str, Sequence[str]]:
    """The distributions of each importable package, kept while `where` stays: it takes a look at each installed file."""
    return metadata.packages_distributions()


def _modules(distribution: metadata.Distribution) -> set[str]:
    """The modules among the distribution's files."""
    code = [path for path in distribution.files or () if path.suffix in _CODE]
    names = {".".join((*path.parent.parts, path.name.partition(".")[0])) for path in code}
    return names | {name.removesuffix(".__init__") for name in names}
