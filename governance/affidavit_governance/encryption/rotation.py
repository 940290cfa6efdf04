"""Rotation: new key versions, re-wrapping what is under old ones, destroying those, and moving to another key provider.

Data keys do not change: re-wrapping protects against later use of an old key-encryption key, not against somebody who has already read the
data keys with it. What each step did stands in the ledger as evidence of kind ``key``, in the transaction that does it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.interfaces.governance import JSON, Evidence
from affidavit_governance.encryption import envelope, sealed
from affidavit_governance.encryption.keyfile import KeyringFile, now
from affidavit_governance.encryption.keyring import LocalKeyring
from affidavit_governance.encryption.providers.choosing import make
from affidavit_governance.encryption.versions import KeyVersion, Secrets

if TYPE_CHECKING:
    import sqlalchemy as sa

    from affidavit.interfaces.keys import KeyProvider
    from affidavit.workspace import Workspace

BATCH = 500
"""Rows moved in one transaction: other writers wait some tens of milliseconds."""

GRACE = timedelta(minutes=10)
"""How long a version stays after it was retired: ten times as long as another process may go on sealing under it unaware."""


class Keys:
    """The keys of one open workspace, for whoever looks after them."""

    def __init__(self, workspace: Workspace) -> None:
        keyring = workspace.keyring
        if not isinstance(keyring, LocalKeyring) or keyring.file is None:
            raise UsageError("The keyring of this workspace has no versions.")
        self._workspace = workspace
        self._store = workspace.store
        self._keyring = keyring
        self._file: KeyringFile = keyring.file

    @property
    def _secrets(self) -> Secrets:
        return self._keyring.secrets

    def status(self) -> dict[str, JSON]:
        """Provider, identity, and the versions with their state and the number of things under each."""
        self._keyring.refresh()
        under = self._under(sealed.count(self._store))
        described = {key: value for key, value in self._file.provider.describe().items() if key != "salt"}
        return {
            "workspace": self._store.workspace_id,
            "provider": {"type": self._file.type, **described},
            "identity": self._keyring.key_id,
            "verifier_key": self._keyring.verifier_key,
            "versions": [{**version.to_json(), "objects": under[version.number]} for version in self._secrets.versions],
        }

    def rotate(self) -> KeyVersion:
        """Make a new key version, under which everything new is sealed from now on. Identity and derived keys stay.

        Raises
        ------
        AffidavitError
            Another process changed the keys at the same time, or the provider cannot be reached; nothing was changed.
        """
        self._keyring.refresh()
        before = self._secrets.active
        secrets = self._secrets.rotated(self._store.workspace_id, now())
        self._commit("rotate", secrets, secrets.active, previous={"version": before.number, "key_id": before.key_id})
        return secrets.active

    def rewrap(self, report: Callable[[int, int], None] | None = None) -> int:
        """Bring everything under the active version; gives how many were moved. May be interrupted anywhere and called again.

        Parameters
        ----------
        report
            Told how many are done, and of how many.

        Raises
        ------
        IntegrityError
            Some could not be moved; the message says where they are. The others were.
        """
        self._keyring.refresh()
        active = self._secrets.active
        before = sealed.count(self._store)
        total = sum(number for (version, key_id), number in before.items() if version == envelope.VERSION and key_id != active.key_id)
        done = 0

        def tell(moved: int) -> None:
            nonlocal done
            done += moved
            if report is not None:
                report(done, max(done, total))

        failed = sealed.rewrap(self._store, bytes.fromhex(active.key_id), self._keyring.rewrap, batch=BATCH, report=tell)
        if done:
            self._append("rewrap", active, objects=self._under(before), moved=done)
        if failed:
            where = ", ".join(f"{place} ({number})" for place, number in sorted(failed.items()))
            raise IntegrityError(
                f"{done} things were moved under key version {active.number}, and {failed.total()} could not be: {where}. "
                "They were changed, or are under a version that was destroyed.",
                hint="Restore them from a backup, or remove them.",
            )
        return done

    def destroy(self, number: int) -> KeyVersion:
        """Destroy the key of a retired version under which nothing is left.

        Raises
        ------
        UsageError
            There is no such version.
        AffidavitError
            It is active, retired for less than `GRACE`, derived from the identity secret, or something is under it.
        """
        self._keyring.refresh()
        version = self._secrets.version(number)
        self._check_destroyable(version)
        self._check_unused(version)
        secrets = self._secrets.without(number, now())
        # Counted again inside the transaction: writers wait meanwhile.
        self._commit("destroy", secrets, version, check=lambda: self._check_unused(version))
        return secrets.version(number)

    def provide(self, name: str, settings: Mapping[str, Any], *, passphrase: str | None = None, key: bytes | None = None) -> str:
        """Seal the secrets through another key provider, or the same with other settings; only ``keyring.json`` changes.

        Returns
        -------
        str
            What holds the key now, for people.
        """
        self._keyring.refresh()
        provider = make(self._workspace.registry, name, settings, self._file.owner(passphrase, key))
        secrets = self._secrets.again()
        previous = self._file.type
        self._commit("provider", secrets, secrets.active, provider=(name, provider), previous={"provider": previous})
        self._file.use(name, provider, passphrase, key)
        return provider.label

    # -- shared ---------------------------------------------------------------------------------------------------------------------

    def _commit(
        self,
        action: str,
        secrets: Secrets,
        version: KeyVersion,
        *,
        provider: tuple[str, KeyProvider] | None = None,
        check: Callable[[], None] = lambda: None,
        **said: JSON,
    ) -> None:
        """Put the next generation in the table together with its evidence, then in the file, then in use."""
        name, chosen = provider or (self._file.type, self._file.provider)
        content = self._file.encode(secrets, name, chosen)

        def also(connection: sa.Connection, _index: int) -> None:
            check()
            self._file.advance(secrets, content, connection)

        self._append(action, version, also=also, provider=name, **said)
        self._file.publish()
        self._keyring.adopt(secrets)

    def _append(
        self,
        action: str,
        version: KeyVersion,
        *,
        also: Callable[[sa.Connection, int], None] | None = None,
        provider: str | None = None,
        previous: Mapping[str, JSON] | None = None,
        objects: Mapping[int, int] | None = None,
        moved: int = 0,
    ) -> Evidence:
        predicate = {
            "action": action,
            "by": self._workspace.actor.name,
            "identity": self._keyring.key_id,
            "provider": provider or self._file.type,
            "version": version.number,
            "key_id": version.key_id,
            "previous": previous,
            "objects": {str(number): count for number, count in sorted((objects or {}).items()) if count},
            "moved": moved,
        }
        subject = {f"key:{version.key_id}": hashlib.sha256(bytes.fromhex(version.key_id)).hexdigest()}
        return self._workspace.ledger.append("key", subject=subject, predicate=predicate, also=also)

    def _under(self, found: Counter[sealed.Prefix]) -> Counter[int]:
        """Counts by version number; what is under a key of nobody's counts under 0."""
        numbers = {version.key_id: version.number for version in self._secrets.versions}
        under: Counter[int] = Counter()
        for (_, key_id), number in found.items():
            under[numbers.get(key_id, 0)] += number
        return under

    def _check_destroyable(self, version: KeyVersion) -> None:
        if version.state == "destroyed":
            raise _refused(version, "was destroyed before", "It is gone: nothing to do.")
        if version.state == "active":
            raise _refused(version, "is active", "Rotate first: affidavit keys rotate.")
        if version.derived:
            raise _refused(version, "follows from the identity secret, and so is never gone while that is there", "Keep it; nothing new is under it.")
        end = datetime.strptime(version.retired, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) + GRACE
        if datetime.now(UTC) < end:
            minutes = round(GRACE.total_seconds() / 60)
            raise _refused(
                version,
                f"was retired less than {minutes} minutes ago, and another process may still seal under it",
                f"Try again after {end:%H:%M} UTC.",
            )

    def _check_unused(self, version: KeyVersion) -> None:
        left = self._under(sealed.count(self._store))[version.number]
        if left:
            raise _refused(version, f"still has {left} things under it", "Move them first: affidavit keys rewrap.")


def _refused(version: KeyVersion, why: str, hint: str) -> AffidavitError:
    return AffidavitError(f"Key version {version.number} ({version.key_id}) cannot be destroyed: it {why}.", hint=hint)
