"""A workspace of its own for a check, which knows what is under check whether or not its plugin is installed."""

from __future__ import annotations

import json
import secrets
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from affidavit.interfaces.dataset import Dataset
from affidavit.plugins import Registration
from affidavit.testing.subjects import Subject
from affidavit.workspace import Workspace

T = TypeVar("T")

KEY = secrets.token_bytes(32)
"""Seals each of them: stretching a passphrase would take longer than most checks."""

PLANTED = ("jana.planted@example.org", "+49 30 23125777", "DE89370400440532013000")
"""An e-mail address of the name reserved by RFC 2606, a number and an account that belong to nobody we know of."""


@contextmanager
def governed(subject: Subject[Any], *, value: Any = None, **policy: Any) -> Iterator[Workspace]:
    """A workspace that knows `subject`, or `value` in its place, under a policy without approvals and with what is given besides."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"approvals": {}, **policy}
        with Workspace(Path(folder) / "workspace", policy=settings, actor="conformance kit", key=KEY) as workspace:
            enter(workspace, subject, value=value)
            yield workspace


def kept(holder: object, context: AbstractContextManager[T]) -> T:
    """What `context` gives, open until nobody has `holder` any more; so `context` must not hold it either."""
    stack = ExitStack()
    value = stack.enter_context(context)
    weakref.finalize(holder, stack.close)
    return value


def enter(workspace: Workspace, subject: Subject[Any], *, value: Any = None) -> None:
    """Make `workspace` know `subject`, or `value` in its place."""
    key = (subject.kind, subject.name)
    workspace.registry._entries[key] = Registration(*key, "given:directly", subject.claimed, None, "conformance kit")
    workspace.registry._loaded[key] = value or subject.value


def load(workspace: Workspace, data: Dataset) -> Dataset:
    """The data set in the workspace, with the types and the target that it has."""
    fields = {field.name: {"type": str(field.type), "role": str(field.role)} for field in data.schema}
    target = data.schema.target
    return workspace.load(data.table, target=None if target is None else target.name, fields=fields, name=data.name)


def in_the_clear(workspace: Workspace, values: Iterable[str]) -> bool:
    """Whether one of `values` stands in a file of the workspace, which must be a folder, or in the evidence, which files hold in base64."""
    contents = [path.read_bytes() for path in Path(workspace.store.location).rglob("*") if path.is_file()]
    contents += [json.dumps(entry.statement, ensure_ascii=False).encode() for entry in workspace.ledger.entries()]
    return any(value.encode() in content for content in contents for value in values)
