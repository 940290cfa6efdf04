"""Plugins: discover, check, order, seal. One broken plugin never takes the rest down; one broken governance module stops everything."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pluggy

from affidavit import hookspecs
from affidavit.deprecation import Deprecation
from affidavit.errors import MissingExtra, PluginError, UsageError, nearest
from affidavit.interfaces.governance import Stage
from affidavit.interfaces.model import CAPABILITIES
from affidavit.tampering import State, restore, sdk_changes, sdk_state
from affidavit.trust import Trust, installed_entry_points, name_of, places

PLUGIN_GROUP = "affidavit.plugins.v1"
GOVERNANCE_GROUP = "affidavit.governance.v1"
_GROUP_FAMILY = "affidavit.plugins."
BUNDLED = "affidavit"
KINDS = ("model", "source", "target", "explainer", "recognizer", "operator", "key_provider", "service")
"""What may be registered."""
LIFECYCLE = tuple(name for name in vars(hookspecs) if name.startswith("affidavit_") and name != "affidavit_register")


@dataclass(frozen=True, slots=True)
class Registration:
    """One name in the registry.

    Attributes
    ----------
    path
        ``"module:attribute"``, imported at first use.
    extra
        The extra of `distribution` that installs what it needs.
    plugin, distribution
        The entry point that added it, and whose that is.
    deprecated
        When the name goes, and what to use instead; None where it stays.
    """

    kind: str
    name: str
    path: str
    capabilities: frozenset[str]
    extra: str | None
    plugin: str
    distribution: str = BUNDLED
    deprecated: Deprecation | None = None


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that could not be used, and why."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin that is in use.

    Attributes
    ----------
    digest, altered
        Of its distribution's files: see `affidavit.trust.Provenance`.
    """

    name: str
    distribution: str
    version: str
    digest: str | None = None
    altered: str | None = None
    registrations: tuple[Registration, ...] = ()
    stage: Stage | None = None


class Registry:
    """Names of model types, sources, targets, explainers, recognizers, operators, key providers and services.

    The names are visible at once; what stands behind one is imported when it is first asked for.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Registration] = {}
        self._loaded: dict[tuple[str, str], Any] = {}

    @property
    def entries(self) -> Mapping[tuple[str, str], Registration]:
        """A read-only view of everything registered."""
        return MappingProxyType(self._entries)

    def names(self, kind: str, *, capability: str | None = None) -> tuple[str, ...]:
        """Registered names of one kind, optionally only those with a capability."""
        return tuple(
            sorted(entry.name for entry in self._entries.values() if entry.kind == kind and (capability is None or capability in entry.capabilities))
        )

    def get(self, kind: str, name: str) -> Any:
        """Import and give what is registered.

        Raises
        ------
        UsageError
            The name is unknown; the message lists the known ones.
        MissingExtra
            A library that the entry's extra installs is absent.
        PluginError
            The module cannot be imported, or does not hold the attribute.
        """
        key = (kind, name)
        entry = self._entries.get(key)
        if entry is not None and entry.deprecated is not None:
            entry.deprecated.warn()
        if key in self._loaded:
            return self._loaded[key]
        if entry is None:
            known = self.names(kind)
            word = {"model": "model type"}.get(kind, kind.replace("_", " "))
            raise UsageError(f"There is no {word} '{name}'.{nearest(name, known)}", hint=f"Known: {', '.join(known) or 'none'}.")
        module, _, attribute = entry.path.partition(":")
        try:
            value = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            library = (error.name or "?").partition(".")[0]
            if entry.extra is None or library.startswith("affidavit"):
                raise PluginError(f"Plugin '{entry.plugin}': {kind} '{name}' needs module '{error.name}', which is absent.") from error
            what = f"{kind.replace('_', ' ').capitalize()} '{name}'"
            raise MissingExtra(what, extra=entry.extra, library=library, distribution=entry.distribution) from error
        except (Exception, SystemExit) as error:  # a module may raise anything on import, or try to end the process
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(f"Plugin '{entry.plugin}': {kind} '{name}' cannot be imported from {entry.path}: {reason}") from error
        self._loaded[key] = value
        return value


class RegistryWriter:
    """What one plugin's `affidavit_register` may do: add names, all or none of which are kept."""

    def __init__(self, registry: Registry, plugin: str, distribution: str = BUNDLED) -> None:
        self._registry = registry
        self._plugin = plugin
        self._distribution = distribution
        self.added: list[Registration] = []

    def add(
        self,
        kind: str,
        name: str,
        path: str,
        *,
        capabilities: Iterable[str] = (),
        extra: str | None = None,
        deprecated: Deprecation | None = None,
    ) -> None:
        """Register `path` (``"module:attribute"``) as `name`.

        Parameters
        ----------
        extra
            The extra of the plugin's own distribution that installs what `path` imports.
        deprecated
            Warns whoever asks for the name, where it goes away.

        Raises
        ------
        PluginError
            The name is taken, or a kind or capability is none.
        """
        if kind not in KINDS:
            raise PluginError(f"Plugin '{self._plugin}' registers '{name}' as a '{kind}'.{nearest(kind, KINDS)}", hint=f"Kinds: {', '.join(KINDS)}.")
        unknown = sorted(set(capabilities) - set(CAPABILITIES))
        if unknown:
            suggestion = nearest(unknown[0], CAPABILITIES)
            raise PluginError(f"Plugin '{self._plugin}' claims the capability '{unknown[0]}' for '{name}', which is none.{suggestion}")
        if path.count(":") != 1:
            raise PluginError(f"Plugin '{self._plugin}' registers {kind} '{name}' with the path '{path}'; write 'module:attribute'.")
        taken = self._registry.entries.get((kind, name))
        if taken is not None or any((entry.kind, entry.name) == (kind, name) for entry in self.added):
            owner = taken.plugin if taken else self._plugin
            raise PluginError(f"Plugin '{self._plugin}' registers {kind} '{name}', which plugin '{owner}' registered before.")
        self.added.append(Registration(kind, name, path, frozenset(capabilities), extra, self._plugin, self._distribution, deprecated))


class PluginManager(pluggy.PluginManager):
    """Pluggy's manager with guards; see the module's docstring and `docs/threat-model.md`."""

    def __init__(self, allow: Iterable[str] = (BUNDLED,)) -> None:
        super().__init__("affidavit")
        self.registry = Registry()
        self.failures: list[PluginFailure] = []
        self.plugins: list[PluginInfo] = []
        self._trust = Trust({*allow, BUNDLED})
        self._installed: Any = None
        self._sealed: dict[str, tuple[pluggy.HookImpl, ...]] | None = None
        self.add_hookspecs(hookspecs)

    # -- loading --------------------------------------------------------------------------------------------------------------------

    def load_plugins(self, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        """Load every entry point alone; what fails stands in `failures` and leaves nothing behind."""
        found = list(self._entry_points(PLUGIN_GROUP) if entry_points is None else entry_points)
        counts = Counter(entry.name for entry in found)
        for entry in sorted(found, key=lambda e: (_distribution(e) != BUNDLED, e.name)):
            distribution = _distribution(entry)
            if counts[entry.name] > 1 and distribution != BUNDLED:
                self._fail(entry, f"the entry-point name '{entry.name}' is used by more than one distribution; rename one")
            elif refusal := self._trust.refusal(entry.dist):
                self._fail(entry, refusal)
            else:
                self._load_one(entry)
        if entry_points is None:
            self._refuse_other_groups({entry.name for entry in found})

    def _entry_points(self, group: str) -> Iterable[metadata.EntryPoint]:
        """What is installed in `group`. Asked once, before any plugin's code runs, because it reads a file of every distribution."""
        if self._installed is None:
            self._installed = installed_entry_points(places())
        found: Iterable[metadata.EntryPoint] = self._installed.select(group=group)
        return found

    def _refuse_other_groups(self, names: set[str]) -> None:
        """Say of plugins for another version of the plugin interface that they are, unless they bring one for this version too."""
        for group in sorted(self._installed.groups):
            for entry in self._entry_points(group) if group.startswith(_GROUP_FAMILY) and group != PLUGIN_GROUP else ():
                if entry.name not in names:
                    self._fail(entry, f"it is a plugin for '{group}', and this Affidavit loads '{PLUGIN_GROUP}'; install a version of it for that")

    def _load_one(self, entry: metadata.EntryPoint) -> None:
        before = sdk_state() if _distribution(entry) != BUNDLED else State()
        writer = RegistryWriter(self.registry, entry.name, _distribution(entry))
        plugin = None
        try:
            plugin = entry.load()
            self.check_hooks(plugin)
            self.register(plugin, name=entry.name)
            self.ask(plugin, writer)
            if replaced := sdk_changes(before):
                sys.modules.pop(entry.module, None)  # so that the next workspace sees it do the same
                raise PluginError(f"it replaced {', '.join(replaced[:3])}: a plugin may add, not change")
        except (Exception, SystemExit) as error:  # a plugin that asks to end the process takes nobody else down
            restore(before)
            if plugin is not None and self.is_registered(plugin):
                self.unregister(plugin)
            self._fail(entry, f"{type(error).__name__}: {error}")
            return
        for registration in writer.added:
            self.registry._entries[(registration.kind, registration.name)] = registration
        self.plugins.append(self._info(entry, registrations=tuple(writer.added)))

    def _info(self, entry: metadata.EntryPoint, *, registrations: tuple[Registration, ...] = (), stage: Stage | None = None) -> PluginInfo:
        found = self._trust.provenance(entry.dist)
        return PluginInfo(entry.name, found.name, found.version, found.digest, found.altered, registrations, stage)

    def _fail(self, entry: metadata.EntryPoint, reason: str) -> None:
        self.failures.append(PluginFailure(entry.name, _distribution(entry), reason))

    def ask(self, plugin: object, writer: RegistryWriter) -> None:
        """Let a plugin that is registered with this manager add its names to `writer`."""
        for impl in self.hook.affidavit_register.get_hookimpls():
            if impl.plugin is plugin:
                impl.function(*[writer for _ in impl.argnames])

    def check_hooks(self, plugin: object) -> None:
        """Raise PluginError for a hook implementation that would run around or after governance."""
        for name in dir(plugin):
            options = self.parse_hookimpl_opts(plugin, name)
            if options is None:
                continue
            hook = options.get("specname") or name
            function = getattr(plugin, name)
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise PluginError(f"'{name}' is asynchronous: it would run after the audit closed. Write a plain function.")
            if hook not in LIFECYCLE:
                continue
            if options["hookwrapper"]:
                raise PluginError(f"'{name}' is an old-style hook wrapper, which can swallow a refusal. Use wrapper=True.")
            if not options["wrapper"]:
                raise PluginError(f"'{name}' would replace the core's own '{hook}'. Register a model type, source or target instead.")
            if options["tryfirst"]:
                raise PluginError(f"'{name}' asks to stand outside governance (tryfirst).")

    def load_governance(self, workspace: Any, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        """Load the governance modules and register them, innermost first, after all plugins.

        Raises
        ------
        PluginError
            A module fails to load, a stage is missing or doubled, or a distribution is not allowed. Governance is whole or absent.
        """
        found = self._entry_points(GOVERNANCE_GROUP) if entry_points is None else entry_points
        modules: dict[Stage, tuple[metadata.EntryPoint, Any]] = {}
        for entry in found:
            if refusal := self._trust.refusal(entry.dist):
                self._fail(entry, refusal)
                continue
            try:
                module = entry.load()(workspace)
                stage = Stage(module.stage)
            except Exception as error:
                raise PluginError(
                    f"Governance module '{entry.name}' failed to load ({type(error).__name__}: {error}).", hint="Nothing may run without it."
                ) from error
            if stage in modules:
                raise PluginError(f"Governance modules '{modules[stage][0].name}' and '{entry.name}' both claim stage {stage.name}.")
            modules[stage] = (entry, module)
        missing = [stage.name for stage in Stage if stage not in modules]
        if missing:
            raise PluginError(f"No governance module for stage {', '.join(missing)}.", hint="Reinstall affidavit.")
        for stage in sorted(Stage, reverse=True):
            entry, module = modules[stage]
            self.register(module, name=f"governance:{entry.name}")
            self.plugins.append(self._info(entry, stage=stage))

    # -- sealing --------------------------------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Check the order of every lifecycle hook and allow no change from here on."""
        sealed: dict[str, tuple[pluggy.HookImpl, ...]] = {}
        for name in LIFECYCLE:
            implementations = tuple(getattr(self.hook, name).get_hookimpls())
            outside_in = [impl.plugin for impl in reversed(implementations)]
            stages = [getattr(plugin, "stage", None) for plugin in outside_in]
            governed = [stage for stage in stages if isinstance(stage, Stage)]
            if stages[: len(governed)] != sorted(governed) or not governed or governed[0] is not Stage.AUDIT:
                raise PluginError(f"Hook '{name}': something stands outside governance or out of its order.")
            if any(not (impl.wrapper or impl.plugin_name == "core") for impl in implementations):
                raise PluginError(f"Hook '{name}' has an innermost implementation that is not the core's.")
            sealed[name] = implementations
        self._sealed = sealed

    def hook_for(self, name: str) -> Callable[..., Any]:
        """The hook to call, after checking that nothing was added or removed since the seal."""
        hook = getattr(self.hook, name)
        if self._sealed is None:
            raise PluginError("The plugin manager is not sealed yet; no call may run.")
        if tuple(hook.get_hookimpls()) != self._sealed[name]:
            raise PluginError(f"Hook '{name}' was changed after the seal.", hint="Open the workspace again.")
        return hook  # type: ignore[no-any-return]  # pluggy's hook relay is untyped

    def _refuse_if_sealed(self, what: str) -> None:
        if getattr(self, "_sealed", None) is not None:
            raise PluginError(f"The plugin manager is sealed: it cannot {what}.", hint="Install the plugin and open the workspace again.")

    def register(self, plugin: object, name: str | None = None) -> str | None:
        self._refuse_if_sealed("register a plugin")
        return super().register(plugin, name)

    def unregister(self, plugin: object | None = None, name: str | None = None) -> Any:
        self._refuse_if_sealed("unregister a plugin")
        return super().unregister(plugin, name)

    def set_blocked(self, name: str) -> None:
        self._refuse_if_sealed("block a plugin")
        super().set_blocked(name)

    def subset_hook_caller(self, name: str, remove_plugins: Iterable[object]) -> pluggy.HookCaller:
        raise PluginError(f"A call of '{name}' without some plugins would drop governance.")


def _distribution(entry: metadata.EntryPoint) -> str:
    return name_of(entry.dist)


@dataclass(slots=True)
class _Shared:
    manager: PluginManager | None = field(default=None)


_shared = _Shared()


def bundled_registry() -> Registry:
    """The registry of the bundled plugins, for uses that need no workspace (drawing a plot, masking a file, verifying a bundle)."""
    if _shared.manager is None:
        manager = PluginManager()
        manager.load_plugins()
        _shared.manager = manager
    return _shared.manager.registry


def load_service(name: str) -> Any:
    """A service of the bundled plugins by name."""
    return bundled_registry().get("service", name)


def source_for(source: Any, registry: Registry) -> Any:
    """The registered source that can read `source`. Raises UsageError, listing the sources, where none can."""
    for name in registry.names("source"):
        reader = registry.get("source", name)()
        if reader.accepts(source):
            return reader
    named = isinstance(source, (str, Path)) and "://" not in str(source)
    what = f"'{source}'" if named else f"an object of type {type(source).__name__}"
    raise UsageError(f"No source can read {what}.", hint=f"Sources: {', '.join(registry.names('source'))}.")
