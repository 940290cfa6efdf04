"""Checks of a recognizer inside a workspace: that what it finds is masked wherever text comes in."""

from __future__ import annotations

import pyarrow as pa

from affidavit.errors import AffidavitError
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.recognizer.subject import RecognizerSubject
from affidavit.testing.report import Tier
from affidavit.testing.within import governed, in_the_clear


@check("recognizer", Tier.GOVERNANCE)
def what_it_finds_is_masked_in_a_workspace(subject: RecognizerSubject) -> None:
    """Under a policy that names it, its examples are masked in a text column and in a prompt, and stand nowhere in the workspace's folder."""
    examples = subject.examples
    texts = list(dict.fromkeys(example.text for example in examples))
    lowest: dict[str, float] = {}
    for example, found in zip(examples, subject.scan([each.text for each in examples]), strict=True):
        score = max(f.score for f in found if (f.entity, f.start, f.end) == (example.entity, example.start, example.end))
        lowest[example.entity] = min(score, lowest.get(example.entity, 1.0))
    masking = {"recognizers": {subject.name: dict(subject.settings)}, "thresholds": lowest}
    with governed(subject, masking=masking) as workspace:
        table = pa.table({"note": texts, "row": list(range(len(texts)))})
        try:
            data = workspace.load(table, fields={"note": {"type": "text"}})
            prompts = [workspace.prompt_masker().mask(text) for text in texts]
        except AffidavitError as error:
            raise CheckFailed(f"masking with it raised {type(error).__name__}: {error}") from error
        notes = dict(zip(texts, data.to_list("note"), strict=True))
        for example in examples:
            for where, masked in (("a text column", notes[example.text]), ("a prompt", prompts[texts.index(example.text)])):
                if example.value in masked:
                    raise CheckFailed(f"an example of {example.entity} is left in the clear in {where}: give the same answer inside a workspace.")
        told = str(subject.settings)  # a list of words that it looks for stands in the policy, and with that in the workspace
        kept = [example.value for example in examples if len(example.value) >= 8 and example.value not in told]
        if in_the_clear(workspace, kept):
            raise CheckFailed("an example stands in the clear in the workspace's folder: keep nothing of what was read.")
