"""ACCESS: every call has an actor; approvals are signatures; an alias moves when the policy's approvals are there."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from typing import Any

from affidavit.approver import approval_message
from affidavit.calls import ApproveCall, Call, DeployCall, PromoteCall
from affidavit.errors import IntegrityError, Refused
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import JSON, Actor, Stage
from affidavit.registry import Version
from affidavit.reveal import RevealCall, ShredCall
from affidavit_governance.access.approvals import tally
from affidavit_governance.access.roster import Roster, signature_holds

Wrapped = Generator[None, Any, Any]

SHRED = "shred"
"""The line of the policy's approvals that says who may destroy a subject's key. It guards no alias."""


class Module:
    """The ACCESS stage of one workspace."""

    stage = Stage.ACCESS

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._roster = Roster(workspace)

    @hookimpl(wrapper=True)
    def affidavit_load(self, call: Call) -> Wrapped:
        _require_actor(call)
        return (yield)

    affidavit_train = affidavit_evaluate = affidavit_explain = affidavit_package = affidavit_load
    affidavit_register_version = affidavit_predict = affidavit_load

    @hookimpl(wrapper=True)
    def affidavit_approve(self, call: ApproveCall) -> Wrapped:
        _require_actor(call)
        person = self._checked_approver(call)
        result = yield
        self._workspace.versions.approve(
            call.version, call.alias, key_fingerprint=person.key, name=person.name, roles=person.roles, signature=call.signature
        )
        call.state(Stage.ACCESS, {"approver": person.name, "roles": list(person.roles)})
        return result

    @hookimpl(wrapper=True)
    def affidavit_promote(self, call: PromoteCall) -> Wrapped:
        _require_actor(call)
        self._check_approvals(call, call.alias)
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_deploy(self, call: DeployCall) -> Wrapped:
        """Count the approvals again: policy, roster and database may have changed since the promotion."""
        _require_actor(call)
        for alias, number in self._workspace.versions.aliases(call.version.name).items():
            if number == call.version.number:
                self._check_approvals(call, alias)
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_reveal(self, call: RevealCall) -> Wrapped:
        """Prove who asks: what the person may be is what the roster says of the key that signed this very call."""
        _require_actor(call)
        if not call.signatures:
            raise Refused(
                f"'{call.actor.name}' asks to see originals without proof of who that is.",
                by="access",
                line="masking.reveal",
                satisfy="Pass by=, a person whose key is enrolled (Approver.read; on the command line --name and --key).",
            )
        person = self._signers(call, "masking.reveal")[0]
        call.replace("person", person, stage=Stage.ACCESS)
        call.state(Stage.ACCESS, {"people": _proved(call, [person])})
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_shred(self, call: ShredCall) -> Wrapped:
        """Count the signatures under this very call against ``approvals.shred``; without that line nobody destroys a key."""
        _require_actor(call)
        line = f"approvals.{SHRED}"
        rule = self._workspace.policy.approvals.get(SHRED)
        if rule is None:
            raise Refused(
                "The policy lets nobody destroy a subject's key, because that cannot be undone.",
                by="access",
                line=line,
                satisfy="Say in the policy who may: approvals: {shred: {count: 1, roles: [privacy]}}.",
            )
        # Nobody destroys a key alone on a claim, so even a count of 0 asks for one signature. Who asks may be one of those who sign.
        count = tally(rule.model_copy(update={"count": max(1, rule.count)}), self._signers(call, line), submitter="")
        if not count.complete:
            raise Refused(
                f"Destroying a subject's key has {len(count.valid)} of {max(1, rule.count)} signatures.",
                by="access",
                line=line,
                measured=len(count.valid),
                bound=max(1, rule.count),
                satisfy=f"Pass by= with the people who ask{_in_roles(count.missing_roles)}.",
            )
        call.replace("people", count.valid, stage=Stage.ACCESS)
        call.state(Stage.ACCESS, {"people": _proved(call, count.valid)})
        return (yield)

    def _signers(self, call: RevealCall | ShredCall, line: str) -> list[Actor]:
        message = call.message()
        return [self._signer(key, signature, message, call, line, "this call") for key, signature in call.signatures]

    def _signer(self, key: bytes, signature: bytes, message: bytes, call: Call, line: str, what: str) -> Actor:
        """The enrolled person whose key signed `message`."""
        person = self._roster.find(hashlib.sha256(key).hexdigest())
        if person is None:
            raise Refused(
                f"'{call.actor.name}' signs with a key that is not enrolled here.",
                by="access",
                line=line,
                satisfy="Enrol the person first: Workspace.enrol.",
            )
        if not signature_holds(key, signature, message):
            raise Refused(f"The signature of '{person.name}' does not match {what}.", by="access", line=line, satisfy="Sign it again.")
        return person

    def _checked_approver(self, call: ApproveCall) -> Actor:
        workspace = self._workspace
        line = f"approvals.{call.alias}"
        message = approval_message(workspace.store.workspace_id, call.version, call.alias)
        person = self._signer(call.key, call.signature, message, call, line, f"{call.version} for '{call.alias}'")
        if self._submitter(call.version) in (person.key, person.name):
            raise Refused(
                f"'{person.name}' submitted {call.version} and cannot approve it.", by="access", line=line, satisfy="Ask somebody else to approve."
            )
        return person

    def _submitter(self, version: Version) -> str:
        """Who registered the version, as the ledger says. Raises IntegrityError where it says nothing of this version with this artifact."""
        subject = {"name": str(version), "digest": {"sha256": version.artifact}}
        for evidence in self._workspace.ledger.entries("register"):
            if evidence.predicate.get("status") == "done" and subject in evidence.statement["subject"]:
                actor = evidence.predicate["actor"]
                return str(actor["key"] or actor["name"])
        raise IntegrityError(
            f"The ledger does not say that {version} was registered with the artifact that the database names: the row was changed.",
            hint="Register the model again.",
        )

    def _check_approvals(self, call: PromoteCall | DeployCall, alias: str) -> None:
        """Count the approvals whose signatures hold today; what the database says of them is not believed."""
        workspace = self._workspace
        submitter = self._submitter(call.version)
        rule = workspace.policy.approvals.get(alias)
        if rule is None:
            return
        people = self._roster.people()
        message = approval_message(workspace.store.workspace_id, call.version, alias)
        signed = []
        for row in workspace.versions.approvals(call.version, alias):
            known = people.get(row.key_fingerprint)
            if known is not None and signature_holds(known[1], row.signature, message):
                signed.append(known[0])
        count = tally(rule, signed, submitter=submitter)
        call.state(Stage.ACCESS, {"approvals": [{"name": actor.name, "key": actor.key, "roles": list(actor.roles)} for actor in count.valid]})
        if not count.complete:
            more = f"{max(count.missing, len(count.missing_roles))} more{_in_roles(count.missing_roles)}"
            raise Refused(
                f"{call.version} has {len(count.valid)} of {rule.count} approvals for '{alias}'.",
                by="access",
                line=f"approvals.{alias}",
                measured=len(count.valid),
                bound=rule.count,
                satisfy=f"It needs {more}, none of them the submitter: affidavit approve {call.version} {alias}.",
            )


def _proved(call: RevealCall | ShredCall, people: Sequence[Actor]) -> list[dict[str, JSON]]:
    """Who signed this call, with the signatures, so that an auditor can check them again."""
    signed = {hashlib.sha256(key).hexdigest(): signature.hex() for key, signature in call.signatures}
    return [{"name": each.name, "key": each.key, "roles": list(each.roles), "signature": signed[str(each.key)]} for each in people]


def _in_roles(roles: Sequence[str]) -> str:
    return f" in the roles {', '.join(roles)}" if roles else ""


def _require_actor(call: Call) -> None:
    if not isinstance(call.actor, Actor) or not call.actor.name.strip():
        raise Refused("This call has no actor.", by="access", line="approvals", satisfy="Open the workspace with actor='name'.")
