"""Which names a new plugin may have."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import metadata

from packaging.utils import canonicalize_name

from affidavit.errors import UsageError
from affidavit.plugins import PLUGIN_GROUP

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
"""What PEP 508 allows as the name of a distribution."""

MOST_LETTERS = 40
"""Longer names make lines, paths and tables that nobody reads."""


def package_of(name: str) -> str:
    """The import package of the distribution `name`: ``acme_models`` for ``Acme-Models``.

    Raises
    ------
    UsageError
        `name` is no distribution's name, gives no package's name, or is taken here by a module, a distribution or a plugin.
    """
    if not _NAME.fullmatch(name) or len(name) > MOST_LETTERS:
        hint = f"Letters, digits, '-', '_' and '.', up to {MOST_LETTERS}, a letter or digit at both ends: for example acme-models."
        raise UsageError("This is no name of a distribution.", hint=hint)
    package = canonicalize_name(name).replace("-", "_")
    if not package.isidentifier() or keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise UsageError(f"The plugin '{name}' would have the package '{package}', which Python cannot import.", hint="Begin with a letter.")
    taken = _taken(name, package)
    if taken is not None:
        raise UsageError(f"The name '{name}' is taken: {taken}.", hint=f"For example my-{canonicalize_name(name)}.")
    return package


def _taken(name: str, package: str) -> str | None:
    """Whose the name is already, in this environment."""
    wanted = canonicalize_name(name)
    for entry in metadata.entry_points(group=PLUGIN_GROUP):
        if canonicalize_name(entry.name) == wanted:
            return f"'{entry.dist.name if entry.dist is not None else 'another distribution'}' brings a plugin of that name"
    try:
        found = metadata.distribution(wanted)
    except metadata.PackageNotFoundError:
        pass
    else:
        return f"the distribution {found.name} {found.version} is installed"
    spec = importlib.util.find_spec(package)
    # A folder without a module in it may lie in the working folder by chance.
    return None if spec is None or spec.origin is None else f"the module '{package}' can be imported here and is another's"
