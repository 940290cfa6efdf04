"""Checks of a plugin's module: what happens when it is imported and asked to register."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier

HEAVY = ("torch", "sklearn", "scipy", "pandas", "transformers", "tensorflow", "keras", "jax", "shap", "lime", "matplotlib", "fastapi")
"""Libraries whose import takes long; a plugin's module is imported whenever a workspace opens."""

_PROBE = """
import importlib, json, sys
import affidavit, affidavit.calls, affidavit.pipeline, affidavit.plugins, affidavit.workspace, affidavit.artifacts, affidavit.interfaces.model

def public():
    found = {}
    for name, module in list(sys.modules.items()):
        if name == "affidavit" or name.startswith("affidavit."):
            for attribute, value in vars(module).items():
                if getattr(value, "__module__", "").startswith("affidavit") or callable(value):
                    found[f"{name}.{attribute}"] = id(value)
                    if isinstance(value, type):
                        found.update({f"{name}.{attribute}.{key}": id(item) for key, item in vars(value).items() if callable(item)})
    return found

before, heavy = public(), set(sys.modules)
importlib.import_module(sys.argv[1])
after = public()
print(json.dumps({
    "changed": sorted(name for name, value in before.items() if after.get(name) != value),
    "loaded": sorted({name.partition(".")[0] for name in set(sys.modules) - heavy}),
}))
"""


@dataclass(frozen=True, slots=True)
class PluginSubject:
    """One entry point of a distribution."""

    entry: metadata.EntryPoint

    def __str__(self) -> str:
        return f"plugin {self.entry.name}"

    @property
    def may_be_loaded(self) -> bool:
        """Whether importing it into this process is safe: it ends, raises nothing and changes nothing of the SDK."""
        try:
            return not self.probe()["changed"]
        except CheckFailed:
            return False

    def probe(self) -> dict[str, list[str]]:
        """What importing the module does, seen from a process of its own. Raises CheckFailed where it cannot be imported."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # what this process sees, that one sees
        command = [sys.executable, "-c", _PROBE, self.entry.module]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=55, env=environment)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise CheckFailed(f"importing {self.entry.module} failed: {last[0]}")
        found: dict[str, list[str]] = json.loads(done.stdout.strip().splitlines()[-1])
        return found


@check("plugin", Tier.API)
def importing_it_is_light(subject: PluginSubject) -> None:
    """Importing the module that the entry point names pulls in no heavy library."""
    heavy = [name for name in subject.probe()["loaded"] if name in HEAVY]
    if heavy:
        raise CheckFailed(f"importing {subject.entry.module} imports {', '.join(heavy)}: register paths, and import in the model's module.")


@check("plugin", Tier.API)
def importing_it_changes_nothing_of_the_sdk(subject: PluginSubject) -> None:
    """No class or function of the SDK is another after the import."""
    changed = subject.probe()["changed"]
    if changed:
        raise CheckFailed(f"importing {subject.entry.module} replaced {', '.join(changed[:3])}: a plugin may add, not change.")


@check("plugin", Tier.API)
def it_says_which_sdk_it_needs(subject: PluginSubject) -> None:
    """The distribution requires `affidavit` with a lower bound, which is read before anything is imported."""
    distribution = subject.entry.dist
    if distribution is None:
        raise CheckFailed("the entry point belongs to no distribution.")
    if canonicalize_name(str(distribution.metadata["Name"])) == "affidavit":
        return
    needs = [Requirement(line) for line in distribution.requires or ()]
    if not any(canonicalize_name(need.name) == "affidavit" and need.specifier for need in needs):
        raise CheckFailed('its project does not require affidavit in a version: add "affidavit>=…" to dependencies.')
