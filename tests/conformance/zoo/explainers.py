"""Broken explainers, at least one for each check, and the sound ones that they are made from: one for each scope."""

from __future__ import annotations

import itertools
import math
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
from tests.conformance.zoo.pen import Pen

from affidavit import Counterfactuals, Explanation, GlobalExplanation
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.model import Metric, inside_call
from affidavit.interfaces.training import Progress
from affidavit.testing.kinds.explainer.subject import IDLE, ExplainerSubject

PEN = Pen(ExplainerSubject, "zoo.explainer")
caught_by = PEN.caught_by


class Base(Explainer):
    """What the sound ones share: options, the rows in the model's columns, and the model as a number a row."""

    type = "zoo.explainer"
    accepts = frozenset({"groups", "model_digest"})
    takes = frozenset({"label", "seed", "groups", "budget", "report", "model_digest"})
    least_background = 2

    def explain(self, model, data, background, **options):
        unknown = set(options) - self.takes
        if unknown:
            raise UsageError(f"There is no option '{min(unknown)}'.")
        rows, reference = model.fitted.conform(data), model.fitted.conform(background)
        if len(reference) < self.least_background:
            raise InvalidInput("The background has a single row.")
        classes = model.fitted.classes
        label = options.get("label") or classes[-1]
        if label not in classes:
            raise UsageError("There is no such class.")
        return self.made(model, rows, reference, self.label(classes, label), options)

    def label(self, classes, label):
        return label

    def groups(self, model, options):
        groups = options.get("groups") or {}
        inside = {field for fields in groups.values() for field in fields}
        return {**groups, **{name: (name,) for name in model.fitted.inputs.names if name not in inside}}

    def report(self, options, done, total):
        options.get("report", lambda progress: None)(Progress(done, total, "explaining"))


@PEN.passes
class Shapley(Base):
    """Exact Shapley values over all coalitions."""

    def made(self, model, rows, reference, label, options):
        groups = self.groups(model, options)

        def score(data):
            return model.predict(data).score(label)

        both = {name: pa.chunked_array([*rows.column(name).chunks, *reference.column(name).chunks]) for name in rows.schema.names}
        others = len(rows) + np.arange(len(reference))

        def game(row, coalitions):
            """The mean answer for each coalition, where its players have the row's values and the others the background's."""
            fields = [{field for player in players for field in groups[player]} for players in coalitions]
            taken = {name: np.concatenate([np.full(len(others), row) if name in own else others for own in fields]) for name in both}
            mixed = {name: column.take(pa.array(taken[name])) for name, column in both.items()}
            return score(Dataset(pa.table(mixed), rows.schema)).reshape(len(coalitions), -1).mean(axis=1)

        self.afford(options.get("budget"), len(groups), len(reference))
        values, errors, base = [], [], []
        for row in range(len(rows)):
            found = self.row(lambda coalitions, row=row: game(row, coalitions), list(groups), options, rows.take([row]).fingerprint, len(reference))
            values.append(found[0]), errors.append(found[1]), base.append(found[2])
            self.report(options, row + 1, len(rows))
        predicted = np.concatenate([score(rows.take([row])) for row in range(len(rows))])
        shown = None if errors[0] is None else np.array(errors)
        details = {"exact": shown is None, "additive": True, "seed": options.get("seed", 0)}
        return Explanation(
            self.type, f"probability of {label}", tuple(groups), np.array(values), np.array(base), predicted, errors=shown, details=details
        )

    def afford(self, budget, players, copies):
        if budget is not None and budget < 2**players * copies:
            raise UsageError("The budget is too small for all coalitions.")

    def row(self, game, players, options, key, copies):
        coalitions = [kept for size in range(len(players) + 1) for kept in itertools.combinations(players, size)]
        worth = dict(zip(coalitions, game(coalitions), strict=True))
        values = np.zeros(len(players))
        for place, player in enumerate(players):
            for kept in worth:
                if player not in kept:
                    share = math.factorial(len(kept)) * math.factorial(len(players) - len(kept) - 1) / math.factorial(len(players))
                    values[place] += share * (worth[tuple(each for each in players if each in (*kept, player))] - worth[kept])
        return values, None, worth[()]


@PEN.passes
class Sampled(Shapley):
    """Estimates over random orders, as many as the budget pays for, with intervals."""

    def afford(self, budget, players, copies):
        if budget is not None and budget < 2 * (players + 1) * copies:
            raise UsageError("The budget is too small for two orders.")

    def row(self, game, players, options, key, copies):
        generator = np.random.default_rng([options.get("seed", 0), int(key[:12], 16)])
        orders = min((options.get("budget") or 500) // ((len(players) + 1) * copies), 40)
        places = [generator.permutation(len(players)) for _ in range(orders)]
        worth = game([[players[place] for place in order[:size]] for order in places for size in range(len(players) + 1)])
        worth = worth.reshape(orders, -1)
        drawn = np.zeros((orders, len(players)))
        np.put_along_axis(drawn, np.array(places), np.diff(worth), axis=1)
        return drawn.mean(axis=0), 2 * drawn.std(axis=0, ddof=1) / np.sqrt(orders), worth[0, 0]


@PEN.passes
class Shuffled(Base):
    """How much the answers move where a player's values come from the next row."""

    scope = "model"
    takes = Base.takes - {"budget"}

    def made(self, model, rows, reference, label, options):
        own = model.predict(rows).score(label)
        turned = pa.array(np.roll(np.arange(len(rows)), 1))
        importance = {}
        for player, fields in self.groups(model, options).items():
            mixed = {name: rows.column(name).take(turned) if name in fields else rows.column(name) for name in rows.schema.names}
            moved = abs(model.predict(Dataset(pa.table(mixed), rows.schema)).score(label) - own)
            half = 2 * moved.std() / np.sqrt(len(rows))
            importance[player] = Metric(float(moved.mean()), float(moved.mean() - half), float(moved.mean() + half))
            self.report(options, len(importance), len(rows.schema.names))
        return GlobalExplanation(self.type, f"probability of {label}", len(rows), importance=importance, details={"seed": options.get("seed", 0)})


@PEN.passes
class Borrowed(Base):
    """Takes over a reference row that is decided otherwise, and gives back what is not needed."""

    scope = "changes"
    accepts = frozenset({"groups", "immutable"})
    takes = frozenset({"seed", "groups", "immutable", "report"})

    def made(self, model, rows, reference, label, options):
        decided, lenders = model.predict(rows).values, model.predict(reference).values
        fixed = {*(options.get("immutable") or ()), *(field.name for field in model.fitted.inputs if field.masked)}
        units = [fields for fields in self.groups(model, options).values() if not fixed & set(fields)]
        changes, distances, predicted = [], [], []
        for row in range(len(rows)):
            own = {name: rows.to_list(name)[row] for name in rows.schema.names}
            found = []
            for lender in np.flatnonzero(lenders != decided[row]):
                then = own | {name: reference.to_list(name)[lender] for fields in units for name in fields}
                if not self.flips(model, then, decided[row]):
                    continue
                for fields in units:
                    back = then | {name: own[name] for name in fields}
                    then = back if self.flips(model, back, decided[row]) else then
                found.append({name: (own[name], then[name]) for name in own if own[name] != then[name]})
            best = min(found, key=len, default=None)
            scores = [] if best is None else [float(model.predict(self.one(model, own | {n: after for n, (_, after) in best.items()})).score()[0])]
            changes.append([] if best is None else [best])
            distances.append([] if best is None else [float(len(best))])
            predicted.append(scores)
            self.report(options, row + 1, len(rows))
        return Counterfactuals(self.type, "another class", changes, distances, predicted, details={"seed": options.get("seed", 0)})

    def one(self, model, values):
        return Dataset.from_rows({name: [value] for name, value in values.items()}, model.fitted.inputs)

    def flips(self, model, values, decided):
        return model.predict(self.one(model, values)).values[0] != decided


@caught_by("explainer_is_what_it_registered")
class OtherName(Shapley):
    type = "zoo.another"

    def made(self, *given):
        return replace(super().made(*given), method="zoo.explainer")


@caught_by("its_scope_and_what_it_accepts_are_known")
class AcceptsWhatNobodyAdds(Shapley):
    accepts = Shapley.accepts | {"budgets"}


@caught_by("its_scope_and_what_it_accepts_are_known")
class RefusesWhatItAccepts(Shuffled):
    accepts = Shuffled.accepts | {"immutable"}

    def explain(self, model, data, background, **options):
        if inside_call.get():
            options.pop("immutable", None)
        return super().explain(model, data, background, **options)


@caught_by("it_gives_a_whole_record_of_its_scope")
class GivesNegativeErrors(Sampled):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, errors=found.errors - 1e-9)


@caught_by("it_gives_a_whole_record_of_its_scope")
class ExplainsWhatTheModelDoesNotAnswer(Shapley):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, output=found.output.replace("probability", "odds"))


@caught_by("it_gives_a_whole_record_of_its_scope")
class SignsWithAnotherName(Shapley):
    def made(self, *given):
        return replace(super().made(*given), method="exact")


@caught_by("it_gives_a_whole_record_of_its_scope")
class RestsOnMoreRowsThanThereAre(Shuffled):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, rows=found.rows + 1000)


@caught_by("it_gives_a_whole_record_of_its_scope")
class ForgetsDistances(Borrowed):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, distances=[[] for _ in found.distances])


@caught_by("attributions_add_up_or_say_how_far_they_follow")
class ScalesItsValues(Shapley):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, values=found.values * 1.01)


@caught_by("attributions_add_up_or_say_how_far_they_follow")
class ExactWithErrors(Shapley):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, errors=np.full(found.values.shape, 0.1))


@caught_by("what_does_nothing_is_said_to_do_nothing")
class SharesWithNobody(Shapley):
    def made(self, *given):
        found = super().made(*given)
        if IDLE in found.players:
            found.values[:, found.players.index(IDLE)] += 0.01
            found.values[:, 0] -= 0.01
        return found


@caught_by("what_does_nothing_is_said_to_do_nothing")
class GivesEveryPlayerAShare(Shuffled):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, importance={name: Metric(m.value + 0.1, m.low + 0.1, m.high + 0.1) for name, m in found.importance.items()})


@caught_by("what_does_nothing_is_said_to_do_nothing")
class GivesNothingBack(Borrowed):
    def made(self, model, rows, reference, label, options):
        found = super().made(model, rows, reference, label, options)
        for row, alternatives in enumerate(found.changes):
            for changes in alternatives:
                if IDLE in rows.schema.names:
                    changes[IDLE] = (rows.to_list(IDLE)[row], 0.5)
        return found


@caught_by("the_class_that_is_asked_for_is_explained")
class ExplainsTheLastClass(Shapley):
    def label(self, classes, label):
        return classes[-1]


@caught_by("fields_of_a_group_are_one_player")
class ForgetsGroups(Shapley):
    def groups(self, model, options):
        return super().groups(model, {})


@caught_by("changes_that_are_given_flip_the_decision")
class DoesNotAskAgain(Borrowed):
    def flips(self, model, values, decided):
        return True

    def made(self, model, rows, reference, label, options):
        found = super().made(model, rows, reference, label, options)
        changes = [[{"second": (second, second + 1e-9)}] for second in rows.to_list("second")]
        return replace(found, changes=changes, distances=[[1.0]] * len(changes), predicted=[[0.5]] * len(changes))

    def groups(self, model, options):
        return super().groups(model, {})


@caught_by("the_same_seed_gives_the_same_explanation")
class SeededByTheClock(Shapley):
    def made(self, *given):
        found = super().made(*given)
        moved = np.random.default_rng(time.perf_counter_ns()).normal(scale=0.01)
        found.values[:, 0] += moved
        found.values[:, 1] -= moved
        return found


@caught_by("a_row_alone_is_explained_as_in_a_batch")
class LooksAtNeighbours(Shapley):
    def made(self, *given):
        found = super().made(*given)
        moved = 0.01 * len(found)
        found.values[:, 0] += moved
        found.values[:, 1] -= moved
        return found


@caught_by("explaining_changes_neither_rows_nor_model")
class WritesIntoItsRows(Shapley):
    def explain(self, model, data, background, **options):
        found = super().explain(model, data, background, **options)
        for chunk in background.table.column(background.schema.names[0]).chunks:
            if chunk.buffers()[1].is_mutable:
                np.frombuffer(chunk.buffers()[1], dtype=np.float64)[:1] += 1
        return found


@caught_by("explaining_changes_neither_rows_nor_model")
class LeavesAMarkInTheModel(Shapley):
    def made(self, model, *given):
        column = model.columns[0]
        column["asked"] = column.get("asked", 0) + (0 if inside_call.get() else 1)
        return super().made(model, *given)


@caught_by("explaining_leaves_global_state_alone")
class SeedsEverybody(Shapley):
    def made(self, *given):
        np.random.seed(0)
        return super().made(*given)


@caught_by("an_unknown_option_of_an_explainer_is_refused")
class TakesAnyOption(Shapley):
    def explain(self, model, data, background, **options):
        return super().explain(model, data, background, **{name: value for name, value in options.items() if name in self.takes})


@caught_by("a_background_that_does_not_fit_is_refused")
class TakesASingleRow(Shapley):
    least_background = 1


@caught_by("rows_that_lack_a_column_are_not_explained")
class FillsMissingColumns(Shapley):
    def explain(self, model, data, background, **options):
        for name in background.schema.names:
            if name in model.fitted.inputs.names and name not in data.schema.names:
                columns = {each: data.table.column(each) for each in data.schema.names} | {
                    name: background.column(name).take(pa.array([0] * len(data)))
                }
                data = Dataset.from_arrow(pa.table(columns), name="filled")
        return super().explain(model, data, background, **options)


@caught_by("the_budget_of_model_rows_is_kept")
class IgnoresItsBudget(Shapley):
    def afford(self, budget, players, copies):
        pass


@caught_by("a_record_survives_json")
class HoldsAnObject(Shapley):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, details={**found.details, "explainer": self})


@caught_by("a_record_survives_json")
class HoldsNaN(Shapley):
    def made(self, *given):
        found = super().made(*given)
        return replace(found, details={**found.details, "seconds": float("nan")})


@caught_by("a_cancelled_explanation_stops")
class GoesOnWhenCancelled(Shapley):
    def report(self, options, done, total):
        with suppress(Exception):
            super().report(options, done, total)


@caught_by("estimates_carry_intervals")
class LosesItsIntervals(Sampled):
    def made(self, *given):
        return replace(super().made(*given), errors=None)


@caught_by("an_explanation_leaves_one_intent_and_one_outcome")
class TakesAnyOptionWhenWatched(Shapley):
    def explain(self, model, data, background, **options):
        known = {name: value for name, value in options.items() if name in self.takes or not inside_call.get()}
        return super().explain(model, data, background, **known)


@caught_by("a_recorded_explanation_can_be_made_again")
class MisstatesItsCost(Shapley):
    """Says that each row had one model row, from which nobody can make the values again."""

    def made(self, *given):
        found = super().made(*given)
        return replace(found, details={**found.details, "rows_spent": [1] * len(found)})

    def afford(self, budget, players, copies):
        super().afford(min(budget) if isinstance(budget, list) else budget, players, copies)


@caught_by("masked_fields_are_not_told_apart")
class TellsMaskedFieldsApart(Shuffled):
    accepts = frozenset({"model_digest"})


@caught_by("no_record_and_no_evidence_quotes_a_row")
class KeepsTheRows(Shapley):
    def made(self, model, rows, *given):
        found = super().made(model, rows, *given)
        return replace(found, details={**found.details, "about": rows.to_list("first")})
