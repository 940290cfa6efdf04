"""A small model in rules that stands for a large one: a tree (Craven, Shavlik 1995), or an ordered list (Rivest 1987; Cohen 1995)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Options
from affidavit_governance.explain.overall.features import Floats, Table, table_of, threshold_between
from affidavit_governance.explain.overall.opening import Whole
from affidavit_governance.explain.overall.rules import LEAST_ROWS, Condition, Rule, fidelity, in_words
from affidavit_governance.explain.players.base import ROWS_AT_ONCE

HELD_OUT = 0.3
"""Share of the rows on which the fidelity is measured."""

LEAST_SHARE = 0.02
"""Share of the training rows that a rule speaks of at least: with hundreds of rows, rules about five would be chance."""

ROWS = 20
"""Rows at least: a handful to learn from, and a handful to measure on."""

Decided = NDArray[np.bool_] | None


class Surrogate(Explainer):
    """Rules learnt from a model's own answers over raw fields, with how well they follow it on rows held out.

    The fidelity says how far the rules may be taken for the model: R² of the answers and, for classes, how often they decide as the model
    does, both with 95 % intervals. Masked fields, and fields in a group with one, are left out, and so are texts and tensors: then the rules
    can only follow the model as far as the other fields reach. Thresholds are rounded between two values, not read off a row, and the
    fidelity is measured with them as they stand in the words.
    """

    scope = "model"
    accepts = ACCEPTS
    own: ClassVar[dict[str, int]]
    ordered: ClassVar[bool]

    @abstractmethod
    def learn(self, table: Table, answers: Floats, decided: Decided, least: int, options: Options) -> list[Rule]:
        """Rules from rows × columns and the model's answers; `least` rows for each at least."""

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> GlobalExplanation:
        read = Options.read(self.type, options, own=self.own)
        for name in self.own:
            if not isinstance(read.own[name], int) or isinstance(read.own[name], bool) or not 1 <= read.own[name] <= 20:
                raise UsageError(f"Option '{name}' of explainer '{self.type}' must be a whole number from 1 to 20.")
        whole = Whole.open(model, data, read, self.type, least=ROWS)
        table, left_out = table_of(whole.data, whole.hidden)
        if not table.columns:
            raise InvalidInput("No field of this model can stand in a rule: all are masked, text, tensors or empty.", hint="Use another method.")
        answers, decided = _answers(whole)
        read.report(Progress(1, 2, "asking"))
        order = whole.generator("split").permutation(len(answers))
        held = np.sort(order[: int(np.ceil(HELD_OUT * len(order)))])
        used = np.sort(order[len(held) :])
        least = max(LEAST_ROWS, int(np.ceil(LEAST_SHARE * len(used))))
        rules = self.learn(Table(table.columns, table.values[used]), answers[used], None if decided is None else decided[used], least, read)
        followed = fidelity(rules, table.values[held], answers[held], None if decided is None else decided[held])
        read.report(Progress(2, 2, "learning"))
        words = in_words(rules, table.columns, whole.score.output, len(used), ordered=self.ordered)
        details = {"left_out": left_out, "training_rows": len(used), "held_out_rows": len(held), "least_rows": least, **read.own}
        return whole.record(len(answers), rules=words, fidelity=followed, details=details)


class SurrogateTree(Surrogate):
    """A CART regression tree on the model's answers; each leaf is a rule. Own option: ``depth`` (3)."""

    type = "surrogate-tree"
    own: ClassVar[dict[str, int]] = {"depth": 3}
    ordered = False

    def learn(self, table: Table, answers: Floats, decided: Decided, least: int, options: Options) -> list[Rule]:
        return grown(table, answers, decided, least, options.own["depth"], options.seed)


class RuleList(Surrogate):
    """An ordered list: each rule speaks of the rows that no earlier one took. Own options: ``rules`` (5) and ``conditions`` in each (2).

    Each rule is the leaf, of a small tree on the rows that are left, whose split from the others takes away most of the squared error.
    """

    type = "rule-list"
    own: ClassVar[dict[str, int]] = {"rules": 5, "conditions": 2}
    ordered = True

    def learn(self, table: Table, answers: Floats, decided: Decided, least: int, options: Options) -> list[Rule]:
        left = np.ones(len(answers), dtype=bool)
        rules: list[Rule] = []
        while len(rules) < options.own["rules"] and left.sum() >= 2 * least:
            votes = None if decided is None else decided[left]
            leaves = grown(Table(table.columns, table.values[left]), answers[left], votes, least, options.own["conditions"], options.seed)
            if len(leaves) < 2:
                break
            best = max(leaves, key=lambda rule: rule.rows / (left.sum() - rule.rows) * (rule.answer - answers[left].mean()) ** 2)
            rules.append(best)
            left &= ~best.holds(table.values)
        return [*rules, _rule((), answers[left], None if decided is None else decided[left])]


def grown(table: Table, answers: Floats, decided: Decided, least: int, depth: int, seed: int) -> list[Rule]:
    """The leaves of a CART tree as rules, from left to right."""
    # scikit-learn compares as float32: ranks are exact there, and a threshold is looked up among the values themselves
    known = [np.unique(column) for column in table.values.T]
    ranks = np.stack([np.searchsorted(values, column) for values, column in zip(known, table.values.T, strict=True)], axis=1)
    tree = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=least, random_state=seed % 2**32).fit(ranks, answers).tree_
    rules: list[Rule] = []

    def walk(node: int, conditions: tuple[Condition, ...], here: NDArray[np.bool_]) -> None:
        if tree.children_left[node] < 0:
            rules.append(_rule(conditions, answers[here], None if decided is None else decided[here]))
            return
        column = int(tree.feature[node])
        place = int(np.floor(tree.threshold[node]))
        present = np.unique(ranks[here, column])
        low, high = known[column][present[present <= place].max()], known[column][present[present > place].min()]
        threshold = threshold_between(float(low), float(high), table.columns[column])
        for child, above in ((tree.children_left[node], False), (tree.children_right[node], True)):
            condition = Condition(column, threshold, above)
            walk(int(child), (*conditions, condition), here & condition.holds(table.values))

    walk(0, (), np.ones(len(answers), dtype=bool))
    return rules


def _rule(conditions: tuple[Condition, ...], answers: Floats, decided: Decided) -> Rule:
    return Rule(conditions, float(answers.mean()), 0.0 if decided is None else float(decided.mean()), len(answers))


def _answers(whole: Whole) -> tuple[Floats, Decided]:
    """The explained number of each row, and whether the model gives it the explained class."""
    answers, decided = [], []
    for start in range(0, len(whole.data), ROWS_AT_ONCE):
        predictions = whole.score.model.predict(Dataset(whole.data.table.slice(start, ROWS_AT_ONCE), whole.data.schema))
        whole.score.rows += len(predictions)
        answers.append(whole.score.read(predictions))
        decided.append(np.array([str(label) == whole.score.label for label in predictions.values], dtype=bool))
    return np.concatenate(answers), np.concatenate(decided) if whole.score.label is not None else None
