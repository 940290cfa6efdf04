"""One tag of a sequence labeller, explained by the tokens of its sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.estimators.shapley import estimate_shapley
from affidavit_governance.explain.estimators.stability import as_details, stability

Tagger = Callable[[Sequence[Sequence[str]]], Sequence[NDArray[np.float64]]]
"""Takes sequences of tokens and gives for each its probabilities, tokens × labels."""

REPLACEMENT = "[UNK]"
"""What stands in the place of an absent token: the usual name of a token that a vocabulary does not have."""

DEFAULT_BUDGET = 2**11
"""Sequences evaluated where the caller names no budget: up to eleven tokens are enumerated."""

_SEQUENCES_AT_ONCE = 256


def explain_tag(
    tagger: Tagger,
    tokens: Sequence[str],
    position: int,
    label: int,
    *,
    name: str | None = None,
    budget: int | None = None,
    replacement: str = REPLACEMENT,
    seed: int = 0,
) -> Explanation:
    """Shapley values of the tokens for the probability of one label at one position.

    An absent token is replaced, so that all the others, and the position asked about, stay where they are. The base is the tagger's answer
    for a sequence of replacements alone.

    Parameters
    ----------
    tagger
        Takes a list of token lists and gives for each its probabilities, tokens × labels.
    position
        Of the token whose tag is explained, from zero.
    label
        The label's column in the tagger's probabilities.
    name
        What the label is called in the record; default its column.
    budget
        Sequences that the tagger may be asked about, default 2 048: exact when 2ⁿ of them fit, otherwise sampled, with 95 % intervals.
    replacement
        The token that stands for an absent one.

    Returns
    -------
    Explanation
        Of one row. Players are ``token [1]``, ``token [2]``…; `inputs` holds the tokens, the record does not.

    Raises
    ------
    UsageError
        The position does not exist, or the budget is too small.
    InvalidInput
        The tagger's answer has another shape, has no such label, or is not finite.
    """
    words = [str(token) for token in tokens]
    if not 0 <= position < len(words):
        raise UsageError(f"There is no position {position} in a sequence of {len(words)} tokens.")
    limit = DEFAULT_BUDGET if budget is None else budget
    asked = 0

    def probability(sequences: list[list[str]]) -> NDArray[np.float64]:
        nonlocal asked
        asked += len(sequences)
        starts = range(0, len(sequences), _SEQUENCES_AT_ONCE)
        return np.concatenate([_probabilities(tagger, sequences[at : at + _SEQUENCES_AT_ONCE], position, label) for at in starts])

    def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        return probability([[word if kept else replacement for word, kept in zip(words, row, strict=True)] for row in coalitions])

    key = "\x1f".join([*words, str(position), str(label), replacement, str(seed)])
    found = estimate_shapley(game, len(words), limit, seed=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big"))
    predicted = probability([words])
    players = tuple(f"token [{number + 1}]" for number in range(len(words)))
    return Explanation(
        method="exact" if found.errors is None else "leverage",
        output=f"probability of {f'label {label}' if name is None else name} at token [{position + 1}]",
        players=players,
        values=found.values[None],
        base=np.array([found.base]),
        predicted=predicted,
        inputs=[list(words)],
        errors=None if found.errors is None else found.errors[None],
        details={
            "exact": found.errors is None,
            "additive": True,
            "position": position,
            "label": label if name is None else name,
            "replacement": replacement,
            "seed": seed,
            "model_rows": asked,
            "stability": as_details([stability(found.values, found.covariance)], [players]),
        },
    )


def _probabilities(tagger: Tagger, sequences: list[list[str]], position: int, label: int) -> NDArray[np.float64]:
    answers = tagger(sequences)
    if len(answers) != len(sequences):
        raise InvalidInput(f"The tagger gave {len(answers)} answers for {len(sequences)} sequences.")
    found = np.empty(len(sequences))
    for number, (answer, sequence) in enumerate(zip(answers, sequences, strict=True)):
        shape = np.shape(answer)
        if len(shape) != 2 or shape[0] != len(sequence):
            raise InvalidInput(f"The tagger gave probabilities of shape {shape} for {len(sequence)} tokens; tokens × labels was due.")
        if not 0 <= label < shape[1]:
            raise InvalidInput(f"The tagger has {shape[1]} labels, and no label {label}.")
        found[number] = np.asarray(answer, dtype=np.float64)[position, label]
    if not np.isfinite(found).all():
        raise InvalidInput(f"The tagger gave {int((~np.isfinite(found)).sum())} probabilities that are not finite numbers.")
    return found
