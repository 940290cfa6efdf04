"""What masking works with: recognizers, operators, and the vault and the subject keys of a workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Recognizer, SubjectKeys, Vault
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.operators.catalogue import BUNDLED
from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import patterns


@dataclass(frozen=True, slots=True)
class Tools:
    """The recognizers and operators that a workspace knows, by default the bundled ones; and what operators may keep secrets in.

    Attributes
    ----------
    vault, subject_keys
        Of the workspace; None outside one.
    """

    recognizers: Sequence[Recognizer] = field(default_factory=patterns)
    operators: Mapping[str, type[Operator]] = field(default_factory=lambda: BUNDLED)
    vault: Vault | None = None
    subject_keys: SubjectKeys | None = None

    @property
    def entities(self) -> frozenset[str]:
        """What the recognizers find."""
        return frozenset(entity for recognizer in self.recognizers for entity in recognizer.entities)

    def context(self, key: bytes, table: str = "") -> MaskContext:
        """What operators get besides a column."""
        return MaskContext(key, table=table, vault=self.vault, subject_keys=self.subject_keys)


def reads(recognizer: Recognizer, *, text: bool) -> bool:
    """Whether a recognizer reads the cells of a column: all read running text, those that are quick every other column too."""
    return text or isinstance(recognizer, PatternRecognizer) or bool(getattr(recognizer, "every_column", False))


def tools_for(policy: MaskingPolicy, registry: Any = None, *, vault: Vault | None = None, subject_keys: SubjectKeys | None = None) -> Tools:
    """The tools that a policy asks for: the bundled recognizers always, others where ``masking.recognizers`` names them.

    Parameters
    ----------
    registry
        Of the workspace; None takes that of the bundled plugins.

    Raises
    ------
    UsageError
        A line names an unknown recognizer, or settings that it does not take.
    MissingExtra
        A recognizer's library is absent.
    """
    if registry is None and not policy.recognizers:
        return Tools(vault=vault, subject_keys=subject_keys)
    if registry is None:
        from affidavit.plugins import bundled_registry

        registry = bundled_registry()
    recognizers: list[Recognizer] = list(patterns())
    for name, settings in policy.recognizers.items():
        made = _make(name, settings, registry)
        recognizers = [*(each for each in recognizers if type(each) is not type(made)), made]
    operators = {**BUNDLED, **{name: registry.get("operator", name) for name in registry.names("operator")}}
    return Tools(tuple(recognizers), operators, vault, subject_keys)


def _make(name: str, settings: Mapping[str, Any], registry: Any) -> Recognizer:
    line = f"Policy line 'masking.recognizers.{name}'"
    try:
        made: Recognizer = registry.get("recognizer", name)(**settings)
    except (UsageError, InvalidInput) as error:
        raise type(error)(f"{line}: {error.message}", hint=error.hint) from None
    except (TypeError, ValueError):
        raise UsageError(f"{line}: its settings cannot be used.", hint="See what the recognizer takes, and write it as key: value.") from None
    return made


class LazyVault:
    """A vault that is opened when an operator first asks for it."""

    def __init__(self, opener: Callable[[], Vault]) -> None:
        self._opener = opener
        self._vault: Vault | None = None

    def _open(self) -> Vault:
        if self._vault is None:
            self._vault = self._opener()
        return self._vault

    def tokens(self, values: Sequence[bytes], *, namespace: str, subjects: Sequence[str | None] | None = None) -> list[bytes]:
        """As `Vault.tokens`."""
        return self._open().tokens(values, namespace=namespace, subjects=subjects)

    def values(self, tokens: Sequence[bytes], *, namespace: str) -> list[bytes]:
        """As `Vault.values`."""
        return self._open().values(tokens, namespace=namespace)


class LazySubjectKeys:
    """Subject keys that are opened when an operator first asks for them."""

    def __init__(self, opener: Callable[[], SubjectKeys]) -> None:
        self._opener = opener
        self._keys: SubjectKeys | None = None

    def keys(self, subjects: Sequence[str], *, create: bool = True) -> list[bytes]:
        """As `SubjectKeys.keys`."""
        if self._keys is None:
            self._keys = self._opener()
        return self._keys.keys(subjects, create=create)


def workspace_tools(workspace: Any, policy: MaskingPolicy | None = None) -> Tools:
    """The tools of a workspace under its policy, or another one. Vault and subject keys are opened at first use.

    Raises
    ------
    UsageError, MissingExtra
        As `tools_for`.
    """
    registry = workspace.registry

    def opener(name: str) -> Callable[[], Any]:
        return lambda: registry.get("service", name)(workspace.store, workspace.keyring)

    services = registry.names("service")
    vault = LazyVault(opener("vault")) if "vault" in services else None
    keys = LazySubjectKeys(opener("subject_keys")) if "subject_keys" in services else None
    return tools_for(policy or workspace.policy.masking, registry, vault=vault, subject_keys=keys)
