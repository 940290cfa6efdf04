"""Checks of a plugin's module: what happens when it is imported and asked to register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import ClassVar

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from affidavit.plugins import BUNDLED
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.isolation import Seen, import_paths, look_at
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject, once
from affidavit.trust import owner_of

HEAVY = ("torch", "sklearn", "scipy", "pandas", "transformers", "tensorflow", "keras", "jax", "shap", "lime", "matplotlib", "fastapi")
"""Libraries whose import takes long; a plugin's module is imported whenever a workspace opens."""

SECONDS = 20.0
"""What importing a plugin's module, and what registering, may take."""

QUICK = 0.5
"""Seconds that importing a plugin's module may take beside the SDK: it happens at every start of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginCase(Case):
    """How a plugin's module is tried.

    Attributes
    ----------
    seconds
        What importing it, and what registering, may take.
    """

    kind: ClassVar[str] = "plugin"
    seconds: float = SECONDS


class PluginSubject(Subject[PluginCase]):
    """One entry point of a distribution; `value` is the entry point."""

    kind = "plugin"
    Case = PluginCase

    value: metadata.EntryPoint

    @property
    def entry(self) -> metadata.EntryPoint:
        """The entry point."""
        return self.value

    @once
    def attempt(self) -> Seen:
        """What importing the module and registering does, seen from a process of its own."""
        return look_at(self.entry, seconds=self.case.seconds)

    @property
    def seen(self) -> Seen:
        """The attempt. Raises Skip where it came to no end, which one check tells of."""
        if self.attempt.fault:
            raise Skip("it cannot be imported, or does not register")
        return self.attempt

    @property
    def seen_alone(self) -> Seen:
        """The attempt. Raises Skip where the module also imports heavy libraries, which do things of their own."""
        if self.heavy:
            raise Skip(f"it imports {', '.join(self.heavy)}, and what those do cannot be told from what it does itself")
        return self.seen

    @property
    def heavy(self) -> list[str]:
        """Heavy libraries that importing the module imports."""
        return [name for name in self.attempt.loaded if name in HEAVY]

    @property
    def unfit(self) -> str:
        """Why it is not loaded into this process, which it would harm; empty where it may be."""
        seen = self.attempt
        return seen.fault or seen.refused or (f"it changes {', '.join(seen.sdk[:3])}" if seen.sdk else "")

    def faults_of_paths(self, *, seconds: float) -> dict[str, str]:
        """What is wrong with importing what it registers, by path, seen from another process. The SDK need not be kept from itself."""
        if _name(self.entry.dist) == BUNDLED:
            return {}
        return import_paths([str(each["path"]) for each in self.attempt.registered], self.entry, seconds=seconds)


@check("plugin", Tier.API)
def importing_and_registering_come_to_an_end(subject: PluginSubject) -> None:
    """Importing the module and asking it to register end in time, raise nothing and leave the process running."""
    if subject.attempt.fault:
        raise CheckFailed(f"{subject.attempt.fault}. Import and register what is needed, and nothing else, at the top of the module.")


@check("plugin", Tier.API)
def its_hooks_are_allowed(subject: PluginSubject) -> None:
    """Its hook implementations are ones that the plugin manager accepts: none would run around governance, or after it."""
    if subject.seen.refused:
        raise CheckFailed(subject.seen.refused)


@check("plugin", Tier.API)
def importing_it_is_light(subject: PluginSubject) -> None:
    """Importing the module that the entry point names pulls in no heavy library."""
    if subject.seen and subject.heavy:
        raise CheckFailed(f"importing {subject.entry.module} imports {', '.join(subject.heavy)}: register paths, and import in the model's module.")


@check("plugin", Tier.API)
def importing_it_changes_nothing_of_the_sdk(subject: PluginSubject) -> None:
    """No class or function of the SDK is another after the import."""
    changed = subject.seen.sdk
    if changed:
        raise CheckFailed(f"importing {subject.entry.module} replaced {', '.join(changed[:3])}: a plugin may add, not change.")


@check("plugin", Tier.API)
def importing_it_leaves_the_process_alone(subject: PluginSubject) -> None:
    """Importing and registering leave random generators, environment, paths, warnings, logging, signals and locale alone, and start no thread."""
    changed = subject.seen_alone.state
    if changed:
        raise CheckFailed(
            f"importing {subject.entry.module} changed {', '.join(changed)}: leave what belongs to the whole process to the application."
        )


@check("plugin", Tier.API)
def importing_it_stays_within_the_process(subject: PluginSubject) -> None:
    """Importing and registering open no network connection, start no process, and write or remove no file."""
    reach = subject.seen_alone.reach
    if reach:
        raise CheckFailed(f"importing {subject.entry.module} {'; '.join(reach[:3])}: do that when it is asked for, in the class that needs it.")


@check("plugin", Tier.API)
def importing_it_prints_nothing(subject: PluginSubject) -> None:
    """Importing and registering print nothing: commands write JSON for machines to the same stream."""
    if subject.seen.printed:
        raise CheckFailed(f"importing {subject.entry.module} printed {subject.seen.printed} bytes: log with logging.getLogger(__name__).debug.")


@check("plugin", Tier.API)
def registering_twice_gives_the_same(subject: PluginSubject) -> None:
    """Every workspace asks a plugin to register, and each time it registers the same."""
    seen = subject.seen
    if seen.registered != seen.again:
        names = sorted({f"{each['kind']} {each['name']}" for each in seen.registered if each not in seen.again})
        names += sorted({f"{each['kind']} {each['name']}" for each in seen.again if each not in seen.registered})
        what = ", ".join(names) or "in another order"
        raise CheckFailed(f"asked a second time it registers otherwise ({what}): keep nothing between calls of affidavit_register.")


@check("plugin", Tier.API)
def its_code_is_its_own(subject: PluginSubject) -> None:
    """The entry point and every registered path lie in the plugin's own distribution: the policy's plugins.allow covers that one."""
    distribution = subject.entry.dist
    if distribution is None:
        raise CheckFailed("the entry point belongs to no distribution.")
    paths = [("its entry point", subject.entry.value), *((f"{each['kind']} {each['name']}", str(each["path"])) for each in subject.seen.registered)]
    for what, path in paths:
        owner = owner_of(path.partition(":")[0].strip(), distribution)
        if owner is not None:
            raise CheckFailed(f"{what} is {path}, which is {owner}: put a class of its own there, which may use the other.")


@check("plugin", Tier.API)
def it_says_which_sdk_it_needs(subject: PluginSubject) -> None:
    """The distribution requires `affidavit` with a lower bound, which is read before anything is imported."""
    distribution = subject.entry.dist
    if distribution is None:
        raise CheckFailed("the entry point belongs to no distribution.")
    if _name(distribution) == BUNDLED:
        return
    needs = [Requirement(line) for line in distribution.requires or ()]
    if not any(canonicalize_name(need.name) == BUNDLED and _has_lower_bound(need) for need in needs):
        raise CheckFailed('its project does not require affidavit in a version: add "affidavit>=…" to dependencies.')


@check("plugin", Tier.QUALITY)
def importing_it_is_quick(subject: PluginSubject) -> None:
    """Importing the module takes less than half a second beside the SDK."""
    if subject.seen.seconds > QUICK:
        raise CheckFailed(
            f"importing {subject.entry.module} took {subject.seen.seconds:.1f} s, at every start of a command: import later what is slow."
        )


@check("plugin", Tier.QUALITY)
def registering_uses_nothing_deprecated(subject: PluginSubject) -> None:
    """Importing and registering use nothing of the SDK that goes away in a later release."""
    _no_deprecation(subject.seen.deprecated)


def _no_deprecation(warned: Sequence[str]) -> None:
    if warned:
        raise CheckFailed(" ".join(dict.fromkeys(warned)))


def _name(distribution: metadata.Distribution | None) -> str:
    return "" if distribution is None else canonicalize_name(str(distribution.metadata["Name"]))


def _has_lower_bound(need: Requirement) -> bool:
    return any(each.operator in (">=", ">", "==", "~=", "===") for each in need.specifier)
