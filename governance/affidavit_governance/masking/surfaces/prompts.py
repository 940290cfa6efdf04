"""Prompts to a language model and its replies: personal data go out as placeholders and come back as what they were.

A masker belongs to one request, or to one conversation whose messages are sent again and again. It is the only place that knows which
placeholder stands for what; nothing of it is written anywhere, and `PromptMasker.close` forgets it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.masking import Finding, MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.operators.catalogue import make_operator
from affidavit_governance.masking.spans import Spans, check_key
from affidavit_governance.masking.surfaces.replies import Replies, ReplyStream, one_of
from affidavit_governance.masking.text import scan_values
from affidavit_governance.masking.tools import Tools, tools_for, workspace_tools

LITERAL = "LITERAL"
"""The entity of text that only looks like a placeholder. It gets one of its own, so that the reply gives it back as it was."""

_ROUNDS = 4
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*_[0-9]+>")
_STRUCTURE = frozenset({"role", "type", "id", "name", "tool_call_id", "tool_use_id", "call_id", "index", "cache_control", "is_error", "status"})
"""Keys of chat messages whose values belong to the protocol. `name` is a tool's; a person's name there is the caller's to leave out."""
_ENCODED = frozenset(
    {"image_url", "image", "input_image", "input_audio", "audio_url", "audio", "input_file", "file", "document", "input_video", "video_url", "video"}
)
"""Message parts that hold no text to search."""
_FREE = frozenset({"content", "output"})
"""Keys of messages that hold text or parts; what else stands there is a tool's own JSON."""
_DEEPEST = 200  # more than any message has; each level takes a few of the interpreter's frames
_JSON_TEXT = frozenset({"arguments"})
"""Keys whose strings are JSON themselves."""


class PromptMasker:
    """Masks what goes to a language model, and unmasks what comes back.

    A value whose entity the policy pseudonymises or tokenises gets the same pseudonym or token as in a table; any other becomes a numbered
    placeholder such as ``<EMAIL_ADDRESS_1>``, the same each time it comes up. Entities that the policy keeps stay. What is masked
    already stays, and text that looks like a placeholder becomes one, so that ``unmask(mask(text)) == text`` for every text.

    Parameters
    ----------
    policy
        The masking section of a policy; default: detect and redact.
    key
        The masking key, 16 to 64 bytes; needed where the policy uses an operator that has one.
    tools
        Recognizers and operators; default: the bundled ones.
    unsearchable
        What to do with images, sound and files in messages, which cannot be searched: refuse them, or let them pass.

    Raises
    ------
    UsageError
        The policy names an unknown operator or setting, an operator needs a key and there is none, the key has another length, or `unsearchable` is
        something else.
    """

    def __init__(
        self,
        policy: MaskingPolicy | None = None,
        *,
        key: bytes | None = None,
        context: MaskContext | None = None,
        tools: Tools | None = None,
        unsearchable: Literal["refuse", "pass"] = "refuse",
    ) -> None:
        if unsearchable not in ("refuse", "pass"):  # a mistyped "refuse" must not let anything pass
            raise UsageError("unsearchable is 'refuse' or 'pass'.")
        self._policy = policy or MaskingPolicy()
        self._tools = tools or tools_for(self._policy)
        self._context = context or (MaskContext(check_key(key)) if key is not None else None)
        self._unsearchable = unsearchable
        self._operators = {entity: self._operator(f"entities.{entity}", line.name, line.settings) for entity, line in self._policy.entities.items()}
        self._default = self._operator("default", self._policy.default.name, self._policy.default.settings)
        self._spans = Spans(self._operators, self._default)
        self._placeholders: dict[tuple[str, str], str] = {}
        self._originals: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}
        self._tokens: dict[str, str] = {}
        self._sent: list[str] = []
        self._replies = Replies()

    def __enter__(self) -> PromptMasker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PromptMasker({len(self._placeholders)} values masked)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A PromptMasker cannot be pickled or copied: it holds personal data.")

    def close(self) -> None:
        """Forget every value."""
        for held in (self._placeholders, self._originals, self._numbers, self._tokens):
            held.clear()
        self._sent.clear()
        self._replies = Replies()

    # -- what goes out --------------------------------------------------------------------------------------------------------------

    def mask(self, text: str) -> str:
        """The text without personal data.

        Raises
        ------
        UsageError
            `text` is no string.
        """
        if not isinstance(text, str):
            raise UsageError(f"A prompt is a string, not {type(text).__name__}.", hint="Use mask_messages for chat messages.")
        if not self._policy.detect:
            return self._escape(text)
        masked = self._hide(text)
        sent = self._with_tokens(masked, text)
        # With its neighbours a token may read as something else; a placeholder cannot.
        if sent != masked and (self._replies.restore(sent) != text or any(mark not in self._replies for mark in _PLACEHOLDER.findall(sent))):
            sent = masked
        self._sent.append(sent)
        return sent

    def mask_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Chat messages in OpenAI's or Anthropic's form without personal data: contents, text parts, tool calls and tool results.

        The messages given are not changed.

        Raises
        ------
        UsageError
            `messages` is no list of dictionaries.
        InvalidInput
            A message holds an image, sound or file, and these are refused; or something else than JSON, or is nested too deeply.
        """
        if isinstance(messages, (str, Mapping)) or not all(isinstance(message, Mapping) for message in messages):
            raise UsageError(
                "Chat messages are a list of dictionaries.", hint="Turn a library's own message into one, with model_dump() for example."
            )
        return [self._leaves(message, mask=True) for message in messages]

    def mask_json(self, value: Any) -> Any:
        """Any JSON value with every string and number in it masked, for example the arguments of a tool."""
        return self._leaves(value, mask=True, structure=frozenset())

    def _hide(self, text: str) -> str:
        """`text` with a placeholder for everything found. What is left is looked at again: a number may show once its neighbour is gone."""
        masked = self._escape(text)
        for _ in range(_ROUNDS):
            found = self._find(masked)
            if not found:
                return masked
            marks = [mark.span() for mark in _PLACEHOLDER.finditer(masked)]
            parts, done = [], 0
            for finding in found:
                start = max(done, _around(marks, finding.start)[0])
                end = _around(marks, finding.end)[1]
                if start < end:
                    parts += [masked[done:start], self._placeholder(finding.entity, self._original(masked[start:end]))]
                    done = end
            masked = "".join(parts) + masked[done:]
        return self._placeholder(found[0].entity, text)

    def _find(self, text: str) -> list[Finding]:
        policy = self._policy
        recognizers = self._tools.recognizers
        return scan_values([text], threshold=policy.threshold, thresholds=policy.thresholds, recognizers=recognizers, settle=self._spans.settle)[0]

    def _escape(self, text: str) -> str:
        """`text` with a placeholder for whatever a reply would be taken to mean: placeholders, and tokens that stand for a value already."""
        tokens = {token for placeholder, token in self._tokens.items() if token != placeholder and token in text}
        stand_ins = re.compile(f"{_PLACEHOLDER.pattern}|{one_of(tokens).pattern}") if tokens else _PLACEHOLDER
        return stand_ins.sub(lambda match: self._placeholder(LITERAL, match.group()), text)

    def _placeholder(self, entity: str, value: str, original: Any = None) -> str:
        known = self._placeholders.get((entity, value))
        if known is None:
            number = self._numbers[entity] = self._numbers.get(entity, 0) + 1
            known = self._placeholders[entity, value] = f"<{entity}_{number}>"
            self._replies.add(known, value)
        if original is not None:
            self._originals[known] = original
        return known

    def _original(self, text: str) -> str:
        return self._replies.restore(text) if "<" in text else text

    def _with_tokens(self, masked: str, text: str) -> str:
        """The operators' tokens in the place of placeholders, for entities whose operator gives one in every text."""
        wanted: dict[str, list[tuple[str, str]]] = {}
        for (entity, value), placeholder in self._placeholders.items():
            if entity != LITERAL and placeholder not in self._tokens and self._tokenised(entity) and placeholder in masked:
                wanted.setdefault(entity, []).append((placeholder, value))
        for entity, pairs in wanted.items():
            for (placeholder, value), token in zip(pairs, self._mask_values(entity, [value for _, value in pairs]), strict=True):
                # What the request has sent already must not come to mean something else.
                taken = token in self._replies or any(token in sent for sent in (text, *self._sent))
                self._tokens[placeholder] = placeholder if taken or token == value else token
                if self._tokens[placeholder] == token:
                    self._replies.add(token, value)
        return _PLACEHOLDER.sub(lambda match: self._tokens.get(match.group(), match.group()), masked)

    def _tokenised(self, entity: str) -> bool:
        operator = self._operator_of(entity)
        return operator.spans and operator.name != "redact"

    def _mask_values(self, entity: str, values: list[str]) -> list[str]:
        operator = self._operator_of(entity)
        if self._context is None:
            raise UsageError(f"The policy masks '{entity}' with '{operator.name}', which needs a key.", hint="Pass key=….")
        masked = operator.apply(pa.chunked_array([pa.array(values, pa.string())]), Field(entity, FieldType.TEXT, entity=entity), self._context)
        assert masked is not None  # only `drop` gives None, and it is not for spans
        return [str(token) for token in masked.to_pylist()]

    def _operator_of(self, entity: str) -> Operator:
        return self._operators.get(entity, self._default)

    def _operator(self, line: str, name: str, settings: Mapping[str, Any]) -> Operator:
        return make_operator(name, settings, where=f"Policy line 'masking.{line}'", known=self._tools.operators)

    # -- what comes back ------------------------------------------------------------------------------------------------------------

    def unmask(self, text: str) -> str:
        """A reply with the originals back in it. What this request did not send stays as it is. Raises UsageError where it is no string."""
        if not isinstance(text, str):
            raise UsageError(f"A reply is a string, not {type(text).__name__}.", hint="Use unmask_message for a chat message.")
        return self._replies.restore(text)

    def unmask_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A chat message of the model, its tool calls included, with the originals back in it. Errors as in `mask_messages`."""
        if not isinstance(message, Mapping):
            raise UsageError("A chat message is a dictionary.", hint="Turn a library's own message into one, with model_dump() for example.")
        restored: dict[str, Any] = self._leaves(message, mask=False)
        return restored

    def unmask_json(self, value: Any) -> Any:
        """Any JSON value with the originals back in it; a number that was masked is a number again where its placeholder stands alone."""
        return self._leaves(value, mask=False, structure=frozenset())

    def stream(self, *, inside_json: bool = False) -> ReplyStream:
        """Unmask a reply that arrives in pieces; placeholders may be split anywhere.

        Parameters
        ----------
        inside_json
            The pieces are JSON text, as the arguments of a tool call are when they are streamed: originals are escaped as JSON wants it.
        """
        return self._replies.stream(inside_json=inside_json)

    # -- both ways ------------------------------------------------------------------------------------------------------------------

    def _leaves(self, value: Any, *, mask: bool, structure: frozenset[str] = _STRUCTURE, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise InvalidInput(f"A message is nested more than {_DEEPEST} deep, which is not searched for personal data.")
        if isinstance(value, str):
            return self.mask(value) if mask else self._originals.get(value, self._replies.restore(value))
        if isinstance(value, Mapping):
            if mask and structure and str(value.get("type")) in _ENCODED:
                return self._unsearched(value)
            return {self._key(key, mask, structure): self._member(key, item, mask, structure, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._leaves(item, mask=mask, structure=structure, depth=depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self._number(value) if mask else value
        raise InvalidInput(
            f"A message holds a value of type {type(value).__name__}, which is no JSON and cannot be searched for personal data.",
            hint="Turn it into text, numbers, lists and dictionaries; a library's own message with model_dump() for example.",
        )

    def _key(self, key: Any, mask: bool, structure: frozenset[str]) -> Any:
        # The keys of a message belong to the protocol; those of arguments may be anything.
        if structure:
            return key
        return self._leaves(key, mask=mask, structure=structure)

    def _member(self, key: Any, item: Any, mask: bool, structure: frozenset[str], depth: int) -> Any:
        if structure and key in structure:
            return item
        if structure and key == "input":  # a tool's arguments in Anthropic's form
            return self._leaves(item, mask=mask, structure=frozenset(), depth=depth)
        if structure and key in _FREE and isinstance(item, (list, tuple)):
            return [self._part(part, mask, structure, depth + 1) for part in item]
        if structure and key in _FREE:
            return self._part(item, mask, structure, depth)
        if key in _JSON_TEXT and isinstance(item, str):
            try:
                inner = json.loads(item)
            except (ValueError, RecursionError):
                return self.mask(item) if mask else self._replies.restore(item)
            return json.dumps(self._leaves(inner, mask=mask, structure=frozenset()), ensure_ascii=False)
        return self._leaves(item, mask=mask, structure=structure, depth=depth)

    def _part(self, part: Any, mask: bool, structure: frozenset[str], depth: int) -> Any:
        # What says no type is no part of a message but, for example, the rows that a tool found: no key of it belongs to the protocol.
        free = isinstance(part, Mapping) and "type" not in part
        return self._leaves(part, mask=mask, structure=frozenset() if free else structure, depth=depth)

    def _number(self, value: float) -> Any:
        """A number in arguments: a payment card or telephone number may be written as one."""
        text = str(value)
        masked = self._hide(text) if self._policy.detect else text
        if masked == text:
            return value
        whole = _PLACEHOLDER.fullmatch(masked)
        if whole is None:  # inside a number nothing can be replaced, so it goes as a whole
            masked = self._placeholder(LITERAL, text)
        self._originals[masked] = value
        return masked

    def _unsearched(self, part: Mapping[str, Any]) -> dict[str, Any]:
        if self._unsearchable == "refuse":
            raise InvalidInput(
                f"A message holds a part of type '{part['type']}', which cannot be searched for personal data.",
                hint="Leave it out, or let such parts pass with unsearchable='pass'.",
            )
        return dict(part)  # a token in the middle of an image's data would spoil it


def _around(marks: list[tuple[int, int]], position: int) -> tuple[int, int]:
    """The mark that `position` lies inside of; where there is none, the position itself twice."""
    before = bisect_left(marks, (position, position)) - 1
    inside = before >= 0 and marks[before][0] < position < marks[before][1]
    return marks[before] if inside else (position, position)


def prompt_masker(workspace: Any, **options: Any) -> PromptMasker:
    """A masker for one request under a workspace's policy and key."""
    tools = workspace_tools(workspace)
    return PromptMasker(workspace.policy.masking, context=tools.context(workspace.keyring.derive("pseudonym")), tools=tools, **options)
