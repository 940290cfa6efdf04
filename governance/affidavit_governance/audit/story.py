"""Do the statements of a ledger fit together? Checks across entries that no single signature or hash can show."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from affidavit.errors import IntegrityError
from affidavit_governance.audit.dsse import subjects
from affidavit_governance.audit.records import evidence_name

OUTCOMES = ("done", "refused", "failed", "interrupted")


@dataclass(slots=True)
class Story:
    """What the statements say together.

    Attributes
    ----------
    kinds
        How many entries of each kind.
    outcomes
        How many calls ended in each way.
    open_calls
        Entry numbers of intents without an outcome, by call: the call was running, or its process died, when the state was taken.
    privacy
        The privacy statements found, with the entry that makes them: of calls that are done, of others that spent privacy, and of settlements.
    segments
        SHA-256 of each sealed journal segment, with its description.
    predictions
        Calls in the sealed journals.
    keys
        What was done to the keys that seal the workspace, in order: the predicates of evidence of kind ``key``.
    policies
        How many statements were made under each policy (by digest).
    """

    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    open_calls: dict[str, int] = field(default_factory=dict)
    privacy: list[dict[str, Any]] = field(default_factory=list)
    segments: dict[str, dict[str, Any]] = field(default_factory=dict)
    predictions: int = 0
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    policies: Counter[str] = field(default_factory=Counter)


def call_digest(call: str) -> str:
    """The digest that stands for a call as a subject: SHA-256 of its id."""
    return hashlib.sha256(call.encode()).hexdigest()


def read_story(statements: Sequence[tuple[str, Mapping[str, Any]]], workspace: str) -> Story:
    """Check statements against each other, in ledger order.

    Parameters
    ----------
    statements
        Kind and statement of each entry.
    workspace
        The workspace that all must name.

    Raises
    ------
    IntegrityError
        An outcome without an intent or with two, a journal with a gap, a subject or workspace that does not fit; the message names the entry.
    """
    story = Story()
    ended: set[str] = set()
    intents: dict[str, str] = {}
    journals: dict[str, dict[str, Any]] = {}
    for index, (kind, content) in enumerate(statements):
        what, predicate = evidence_name(index), content["predicate"]
        story.kinds[kind] += 1
        if predicate.get("workspace") != workspace:
            raise IntegrityError(f"{what} is of another workspace than this ledger.")
        if isinstance(predicate.get("policy"), str):
            story.policies[predicate["policy"]] += 1
        if "journal" in predicate:
            _read_segment(story, journals, content, what)
        elif "phase" in predicate:
            _read_phase(story, intents, ended, index, kind, content, what)
        elif kind == "key":
            _read_key(story, predicate, what)
        elif kind == "budget" and "epsilon" in predicate:
            spent = {"epsilon": predicate["epsilon"], "delta": predicate.get("delta"), "events": predicate.get("stands")}
            story.privacy.append({**spent, "entry": index, "kind": kind, "status": predicate.get("action"), "subjects": subjects(content)})
    return story


def _read_phase(story: Story, intents: dict[str, str], ended: set[str], index: int, kind: str, content: Mapping[str, Any], what: str) -> None:
    predicate = content["predicate"]
    call, phase, status = predicate.get("call"), predicate["phase"], predicate.get("status")
    if not isinstance(call, str) or phase not in ("intent", "outcome"):
        raise IntegrityError(f"{what} names no call, or a phase that does not exist.")
    if (phase == "intent" or status != "done") and subjects(content) != {f"call:{call}": call_digest(call)}:
        raise IntegrityError(f"{what} is about another subject than its call.")
    if phase == "intent":
        if call in intents:
            raise IntegrityError(f"{what} announces call {call} a second time.")
        intents[call] = kind
        story.open_calls[call] = index
        return
    if status not in OUTCOMES:
        raise IntegrityError(f"{what} has no status that exists.")
    if intents.get(call) != kind or call in ended:
        raise IntegrityError(f"{what} ends call {call}, which was not announced or has ended before.")
    ended.add(call)
    del story.open_calls[call]
    story.outcomes[status] += 1
    stages = predicate.get("stages")
    privacy = stages.get("privacy") if isinstance(stages, dict) else None
    if isinstance(privacy, dict) and "epsilon" in privacy and (status == "done" or privacy.get("events")):
        story.privacy.append({**privacy, "entry": index, "kind": kind, "status": status, "subjects": subjects(content)})


def _read_key(story: Story, predicate: Mapping[str, Any], what: str) -> None:
    """Key versions count up by one, the one identity stays, and a version that was destroyed or is active is not destroyed."""
    action, version = predicate.get("action"), predicate.get("version")
    if action not in ("rotate", "rewrap", "destroy", "provider") or type(version) is not int:
        raise IntegrityError(f"{what} describes no change of keys.")
    if story.keys and predicate.get("identity") != story.keys[0].get("identity"):
        raise IntegrityError(f"{what} is about another identity than the key evidence before it.")
    active = 1 + sum(said["action"] == "rotate" for said in story.keys)
    if action == "rotate":
        if version != active + 1:
            raise IntegrityError(f"{what} rotates to key version {version}, and version {active} was active.")
        active = version
    # Another process may have rotated while things were being re-wrapped.
    if version > active or (action == "provider" and version != active):
        raise IntegrityError(f"{what} names key version {version} as active, and version {active} was.")
    gone = [said["version"] for said in story.keys if said["action"] == "destroy"]
    if action == "destroy" and (version >= active or version in gone):
        raise IntegrityError(f"{what} destroys key version {version}, which was active, unknown or destroyed before.")
    story.keys.append(predicate)


def _read_segment(story: Story, journals: dict[str, dict[str, Any]], content: Mapping[str, Any], what: str) -> None:
    """A journal's segments follow each other without a gap: number, counter and chain."""
    segment = content["predicate"]["journal"]
    numbers = ("segment", "first", "last", "rows")
    if not isinstance(segment, dict) or any(type(segment.get(key)) is not int for key in numbers) or not isinstance(segment.get("id"), str):
        raise IntegrityError(f"{what} describes no journal segment.")
    before = journals.get(segment["id"], {"segment": -1, "last": 0, "chain_end": segment.get("chain_start")})
    expected = (before["segment"] + 1, before["last"] + 1, before["chain_end"])
    if (segment["segment"], segment["first"], segment.get("chain_start")) != expected or segment["last"] < segment["first"]:
        raise IntegrityError(f"{what}: journal {segment['id']} has a gap before call {segment['first']}; {before['last']} were sealed.")
    journals[segment["id"]] = segment
    if len(subjects(content)) != 1:
        raise IntegrityError(f"{what} is about more than one journal segment.")
    story.predictions += segment["last"] - segment["first"] + 1
    story.segments[min(subjects(content).values())] = segment


def check_segment(data: bytes, segment: Mapping[str, Any], what: str) -> None:
    """Check the lines of a journal segment against its statement: the counters run without a gap, the rows add up.

    The keyed chain between the lines needs the workspace's key and is not checked here; the digest of the whole segment is signed.
    """
    lines = data.decode("ascii", "replace").splitlines()[1:]
    try:
        counters = [int(line.split(" ")[0]) for line in lines]
        rows = sum(int(line.split(" ")[6]) for line in lines)
    except (ValueError, IndexError):
        raise IntegrityError(f"{what} holds a line that is no journal line.") from None
    # Lengths first: the numbers are not trusted yet, and a range over them could fill the memory.
    expected = segment["last"] - segment["first"] + 1
    if len(counters) != expected or counters != list(range(segment["first"], segment["last"] + 1)) or rows != segment["rows"]:
        raise IntegrityError(f"{what} does not hold the calls {segment['first']} to {segment['last']} that its evidence names.")
