"""Random tokens and, sealed behind them, the values that they stand for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store import Store
from affidavit_governance.masking.reveal.sealing import KEY_BYTES, RowSealer, expand
from affidavit_governance.masking.reveal.subjects import Shredded, SqlSubjectKeys, chunks
from affidavit_governance.masking.reveal.tables import VERSION, vault, vault_metadata

TOKEN_BYTES = 16


class _Keys:
    """The keys for one batch of values: the subjects' own, and what follows from them."""

    def __init__(self, subjects: Mapping[bytes, bytes], lookup: bytes) -> None:
        self._subjects = subjects
        self._lookup = lookup
        self._hashes: dict[tuple[bytes | None, str], hashlib.blake2b] = {}
        self._sealers: dict[tuple[bytes | None, str], RowSealer] = {}

    def lookup(self, owner: bytes | None, namespace: str, value: bytes) -> bytes:
        """The hash that finds a value again."""
        base = self._hashes.get((owner, namespace))
        if base is None:
            name = namespace.encode("utf-8", "surrogatepass")
            key = self._lookup if owner is None else expand(self._subjects[owner], "vault lookup", 32)
            base = hashlib.blake2b(len(name).to_bytes(4, "big") + name, digest_size=32, key=key, person=b"affidavit-vl-1")
            self._hashes[owner, namespace] = base
        state = base.copy()
        state.update(value)
        return state.digest()

    def sealer(self, owner: bytes | None, namespace: str, key: bytes, workspace: str) -> RowSealer:
        """What seals and opens the values of one owner; `key` is for those of nobody."""
        made = self._sealers.get((owner, namespace))
        if made is None:
            chosen = key if owner is None else expand(self._subjects[owner], "vault values", KEY_BYTES)
            made = RowSealer(chosen, workspace.encode(), b"vault", namespace.encode("utf-8", "surrogatepass"))
            self._sealers[owner, namespace] = made
        return made


class SqlVault:
    """The vault of one workspace (implements `affidavit.interfaces.masking.Vault`).

    A token is 16 random bytes and says nothing about its value. A value is found again by a keyed BLAKE2b hash (RFC 7693) and sealed with a
    key of the workspace's keyring, bound to workspace, namespace and token. Where the value has a subject, both keys come from the
    subject's: equal values of two people have two tokens, and once the subject's key is destroyed nobody can read the value or test a guess.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        store.ensure(vault_metadata, "masking_vault", VERSION)
        self._store = store
        self._subjects = SqlSubjectKeys(store, keyring)
        self._lookup = keyring.derive("masking vault lookup")
        self._values = keyring.derive("masking vault values", KEY_BYTES)

    def tokens(self, values: Sequence[bytes], *, namespace: str, subjects: Sequence[str | None] | None = None) -> list[bytes]:
        """The token of each value, 16 random bytes; a value known in `namespace` keeps the token that it has.

        Parameters
        ----------
        subjects
            Whose each value is, one a value; None for a value of nobody.

        Raises
        ------
        Refused
            The key of a subject was destroyed.
        UsageError
            `subjects` has another length than `values`.
        """
        owners = self._owners(values, subjects)
        keys = _Keys(self._subjects.keys_by_name([owner for owner in owners if owner], create=True), self._lookup)
        pairs = list(zip(owners, values, strict=True))
        hashes = {pair: keys.lookup(pair[0], namespace, pair[1]) for pair in dict.fromkeys(pairs)}
        wanted = {lookup: pair for pair, lookup in hashes.items()}
        found: dict[bytes, bytes] = {}
        for part in chunks(wanted):
            with self._store.read() as connection:
                known = self._known(connection, part)
            absent = [lookup for lookup in part if lookup not in known]
            if absent:
                known |= self._add({lookup: wanted[lookup] for lookup in absent}, namespace, keys)
            found |= known
        return [found[hashes[pair]] for pair in pairs]

    def values(self, tokens: Sequence[bytes], *, namespace: str) -> list[bytes]:
        """The value behind each token.

        Raises
        ------
        IntegrityError
            A token is unknown, of another namespace, or its row was changed.
        Refused
            The subject's key was destroyed.
        """
        found: dict[bytes, bytes] = {}
        for part in chunks(tokens):
            query = sa.select(vault.c.token, vault.c.subject, vault.c.sealed).where(vault.c.token.in_(part))
            with self._store.read() as connection:
                rows = connection.execute(query).all()
            if len(rows) < len(part):
                raise IntegrityError(
                    f"{len(part) - len(rows)} of {len(part)} tokens have no row in this workspace's vault (namespace '{namespace}').",
                    hint="They are of another workspace, no tokens at all, or their rows were removed.",
                )
            if any(row.sealed is None for row in rows):
                raise Shredded("The key of the subject behind a token was destroyed: its value cannot be read any more.")
            keys = _Keys(self._subjects.keys_by_name([bytes(row.subject) for row in rows if row.subject is not None]), self._lookup)
            for row in rows:
                owner = None if row.subject is None else bytes(row.subject)
                value = self._sealer(owner, namespace, keys).open(bytes(row.token), bytes(row.sealed))
                if value is None:
                    raise IntegrityError(
                        f"The vault's row of a token was changed, or the token is of another namespace than '{namespace}'.",
                        hint="Reveal each column with the operator that masked it; if the table was changed, restore it from a backup.",
                    )
                found[bytes(row.token)] = value
        return [found[token] for token in tokens]

    def count(self, name: bytes) -> int:
        """Rows that can be read only with the key of the subject known as `name` (see `SqlSubjectKeys.name`)."""
        query = sa.select(sa.func.count()).select_from(vault).where(vault.c.subject == name, vault.c.sealed.is_not(None))
        with self._store.read() as connection:
            return int(connection.execute(query).scalar_one())

    @staticmethod
    def empty(connection: sa.Connection, name: bytes) -> int:
        """Take the sealed values of a subject out, and the hashes that would find them; gives the number of rows."""
        chosen = (vault.c.subject == name) & vault.c.sealed.is_not(None)
        return int(connection.execute(vault.update().where(chosen).values(sealed=None, lookup=None)).rowcount)

    def _owners(self, values: Sequence[bytes], subjects: Sequence[str | None] | None) -> list[bytes | None]:
        if subjects is None:
            return [None] * len(values)
        if len(subjects) != len(values):
            raise UsageError(f"The vault got {len(values)} values and {len(subjects)} subjects.")
        names = {subject: self._subjects.name(subject) for subject in dict.fromkeys(subjects) if subject is not None}
        return [None if subject is None else names[subject] for subject in subjects]

    @staticmethod
    def _known(connection: sa.Connection, lookups: Sequence[bytes]) -> dict[bytes, bytes]:
        query = sa.select(vault.c.lookup, vault.c.token).where(vault.c.lookup.in_(lookups))
        return {bytes(lookup): bytes(token) for lookup, token in connection.execute(query)}

    def _add(self, wanted: Mapping[bytes, tuple[bytes | None, bytes]], namespace: str, keys: _Keys) -> dict[bytes, bytes]:
        """Tokens for values that had none a moment ago; what another process has stored meanwhile stands."""
        # Drawn and sealed before the write lock is taken, which other processes wait for.
        fresh = []
        for lookup, (owner, value) in wanted.items():
            token = secrets.token_bytes(TOKEN_BYTES)
            sealed = self._sealer(owner, namespace, keys).seal(token, value)
            fresh.append({"token": token, "lookup": lookup, "subject": owner, "sealed": sealed})
        with self._store.write() as connection:
            known = self._known(connection, list(wanted))
            rows = [row for row in fresh if row["lookup"] not in known]
            if rows:
                connection.execute(vault.insert(), rows)
        return known | {bytes(row["lookup"] or b""): bytes(row["token"] or b"") for row in rows}

    def _sealer(self, owner: bytes | None, namespace: str, keys: _Keys) -> RowSealer:
        return keys.sealer(owner, namespace, self._values, self._store.workspace_id)
