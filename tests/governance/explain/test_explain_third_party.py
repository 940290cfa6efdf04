"""Explainers of third parties that claim what does not hold: one clear error that says whose, and an outcome in the ledger."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tests.conformance.zoo.explainers import Shapley

import affidavit as af
from affidavit.errors import InvalidInput, PluginError, Refused, UsageError
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.model import Metric
from affidavit_governance.explain.methods.linear import Linear

SECRET = "an input of row 3"


def opened(folder, **explain):
    return af.Workspace(folder / "ws", policy={"explain": explain}, actor="tester")


def trained(workspace):
    generator = np.random.default_rng(0)
    income = generator.normal(size=120)
    columns = {"income": income, "colour": np.array(["red", "blue"])[generator.integers(0, 2, 120)]}
    data = workspace.load(pa.table({**columns, "y": np.where(income + generator.normal(size=120) > 0, "good", "bad")}), target="y", name="toy")
    return workspace.train("tabular.logistic", data), data


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A workspace with the default policy, a model and its data."""
    with opened(tmp_path_factory.mktemp("plain")) as workspace:
        yield workspace, *trained(workspace)


def outcome(workspace):
    return [e.predicate for e in workspace.ledger.entries("explain") if e.predicate["phase"] == "outcome"][-1]


@pytest.fixture
def installed(monkeypatch):
    def install(workspace, explainer):
        registry = workspace.registry
        sample = registry.entries[("explainer", "linear")]
        key = ("explainer", explainer.type)
        monkeypatch.setitem(registry._entries, key, type(sample)("explainer", explainer.type, "x:y", frozenset(), None, "test"))
        monkeypatch.setitem(registry._loaded, key, explainer)

    return install


def lying(change):
    class Liar(Explainer):
        type = "acme.liar"

        def explain(self, model, data, background, **options):
            honest = replace(Linear().explain(model, data, background), method=self.type)
            return replace(honest, **change(honest))

    return Liar


def details(**added):
    return lambda e: {"details": {**e.details, **added}}


def endless():
    found: list = []
    found.append(found)
    return found


CLAIMS = {
    "residuals of its own": (lambda e: {"values": e.values * 2, "residuals": np.zeros(len(e))}, Refused, "miss the model's own answer"),
    "exact, not additive": (lambda e: {"values": e.values * 2, **details(additive=False)(e)}, PluginError, "exact values do"),
    "neither additive nor sure": (lambda e: {"values": e.values * 2, **details(additive=False, exact=False)(e)}, PluginError, "not how well they"),
    "additive in words": (details(additive="maybe"), PluginError, r"details\['additive'\] that is not true or false"),
    "other players": (lambda e: {"players": (SECRET, "colour")}, PluginError, "no input of this model"),
    "a value in a name": (lambda e: {"players": ("income", "colour = red")}, PluginError, "no input of this model"),
    "one player twice": (lambda e: {"players": ("income", "income")}, PluginError, "names, each once"),
    "players that are numbers": (lambda e: {"players": (1, 2)}, PluginError, "names, each once"),
    "no players": (lambda e: {"players": None}, PluginError, "names, each once"),
    "texts for numbers": (lambda e: {"values": np.full(e.values.shape, "x")}, PluginError, "values that are no numbers"),
    "complex numbers": (lambda e: {"values": e.values + 1j}, PluginError, "values that are no numbers"),
    "errors of another shape": (lambda e: {"errors": np.ones((1, 1))}, PluginError, "errors of shape"),
    "negative errors": (lambda e: {"errors": -np.ones_like(e.values)}, PluginError, "no half-widths"),
    "no errors at all": (lambda e: {"errors": np.full_like(e.values, np.nan)}, PluginError, "no half-widths"),
    "exact with errors": (lambda e: {"errors": np.ones_like(e.values)}, PluginError, "exact, and gives them errors"),
    "interactions of another shape": (lambda e: {"interactions": np.ones((1, 2, 2))}, PluginError, "interactions of shape"),
    "inputs of another shape": (lambda e: {"inputs": [[SECRET]]}, PluginError, "inputs that are not one list"),
    "an output that is no text": (lambda e: {"output": 3}, PluginError, "does not answer"),
    "an object": (details(x=object()), PluginError, r"details\['x'\] that JSON cannot hold"),
    "a date": (details(x=datetime.date(2020, 1, 1)), PluginError, r"details\['x'\] that JSON cannot hold"),
    "a date of numpy": (details(x=np.datetime64("2020-01-01")), PluginError, "JSON cannot hold"),
    "half of a letter": (details(x="\ud800"), PluginError, "JSON cannot hold"),
    "a list in itself": (details(x=endless()), PluginError, "JSON cannot hold"),
    "very long": (details(x=list(range(400_000))), PluginError, "details of [0-9]+ bytes"),
    "a fit in words": (details(local_r2="high"), PluginError, "one number, or null, for each row"),
    "the fit of fewer rows": (details(local_r2=[]), PluginError, "one number, or null, for each row"),
    "costs in words": (details(rows_spent=5), PluginError, "no list of whole numbers"),
    "groups in words": (details(groups="x"), PluginError, "not a mapping"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_an_explainer_claims_and_what_does_not_hold_is_one_error_with_its_name(plain, installed, claim):
    change, kind, words = CLAIMS[claim]
    workspace, model, data = plain
    installed(workspace, lying(change))
    with pytest.raises(kind, match=words) as caught:
        workspace.explain(model, data.head(3), method="acme.liar")
    assert "'acme.liar'" in str(caught.value) and SECRET not in str(caught.value)
    said = outcome(workspace)
    assert said["status"] == ("refused" if kind is Refused else "failed") and SECRET not in str(said)


def test_a_fit_that_is_not_known_because_it_is_no_number_does_not_pass_as_good(plain, installed):
    workspace, model, data = plain
    installed(workspace, lying(lambda e: {**details(additive=False, exact=False, local_r2=[0.9, float("nan"), 0.9])(e)}))
    with pytest.raises(PluginError, match="not how well they follow it"):
        workspace.explain(model, data.head(3), method="acme.liar")


def test_numbers_of_numpy_and_sequences_of_other_kinds_are_taken_as_what_they_are(plain, installed):
    def change(e):
        numpys = details(x=np.arange(3), y=np.float32(1.5), z={1, "a"})(e)
        return {"players": list(e.players), "values": np.asfortranarray(e.values), **numpys}

    workspace, model, data = plain
    installed(workspace, lying(change))
    found = workspace.explain(model, data.head(3), method="acme.liar")
    assert workspace.replay(found, data.head(3), model=model).bit_equal
    assert found.players == ("income", "colour") and found.values.dtype == np.float64
    assert found.details["x"] == [0, 1, 2] and set(found.details["z"]) == {1, "a"}


def test_who_made_it_stands_in_the_record_whatever_the_record_said(plain, installed):
    workspace, model, data = plain
    installed(workspace, lying(lambda e: {"method": "exact", "signed": b"forged"}))
    found = workspace.explain(model, data.head(3), method="acme.liar")
    assert outcome(workspace)["stages"]["explain"]["method"] == found.method == "acme.liar" and found.signed != b"forged"


def test_a_kind_of_record_of_its_own_cannot_answer_for_its_residuals(plain, installed):
    class Smooth(Explanation):
        __slots__ = ()

        @property
        def residual(self):
            return np.zeros(len(self.values))

    class Sly(Explainer):
        type = "acme.sly"

        def explain(self, model, data, background, **options):
            honest = Linear().explain(model, data, background)
            return Smooth(self.type, honest.output, honest.players, honest.values * 2, honest.base, honest.predicted)

    workspace, model, data = plain
    installed(workspace, Sly)
    with pytest.raises(Refused, match="miss the model's own answer"):
        workspace.explain(model, data.head(3), method="acme.sly")


@pytest.mark.parametrize("error", [SystemExit(3), KeyError(SECRET), ZeroDivisionError(SECRET)])
def test_an_explainer_that_breaks_down_is_named_and_its_words_stay_out_of_the_message(plain, installed, error):
    class Broken(Explainer):
        type = "acme.broken"

        def explain(self, model, data, background, **options):
            raise error

    workspace, model, data = plain
    installed(workspace, Broken)
    with pytest.raises(PluginError, match=rf"'acme\.broken' failed \({type(error).__name__}\)") as caught:
        workspace.explain(model, data.head(3), method="acme.broken")
    assert caught.value.__cause__ is error and SECRET not in str(caught.value)
    assert outcome(workspace)["status"] == "failed" and outcome(workspace)["error"] == "PluginError"


def test_answers_of_a_model_that_the_explainer_changed_are_not_the_model_s_own(plain, installed):
    class Meddler(Explainer):
        type = "acme.meddler"

        def explain(self, model, data, background, **options):
            before = type(model).predict
            type(model).predict = lambda self, rows: replace_probabilities(before(self, rows))
            try:
                return Linear().explain(model, data, background)
            finally:
                type(model).predict = before

    def replace_probabilities(found):
        found.probabilities[:] = found.probabilities[:, ::-1]
        return found

    workspace, model, data = plain
    installed(workspace, Meddler)
    with pytest.raises((PluginError, Refused)):
        workspace.explain(model, data.head(3), method="acme.meddler")
    assert workspace.explain(model, data.head(3)).residual.max() < 1e-9


def test_the_policy_s_groups_hold_for_an_explainer_that_takes_none(tmp_path, installed):
    with opened(tmp_path, groups={"both": ["income", "colour"]}) as workspace:
        model, data = trained(workspace)
        installed(workspace, lying(lambda e: {}))
        with pytest.raises(PluginError, match="'income' apart from the other fields of the player 'both'"):
            workspace.explain(model, data.head(3), method="acme.liar")


# Descriptions of a model, and changes


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"rows": 10**6}, "rest on other rows"),
        ({"rows": 0}, "rest on other rows"),
        ({"importance": {"income": Metric(float("nan"))}}, "'income' that is no finite number"),
        ({"details": {"x": object()}}, "JSON cannot hold"),
    ],
)
def test_a_description_that_claims_too_much_is_one_error(tmp_path, installed, members, words):
    class Summary(Explainer):
        type = "acme.summary"
        scope = "model"

        def explain(self, model, data, background, **options):
            return GlobalExplanation(**{"method": "other", "output": "probability of good", "rows": len(data), **members})

    with opened(tmp_path, release="top-k") as workspace:
        model, data = trained(workspace)
        installed(workspace, Summary)
        with pytest.raises(PluginError, match=words):
            workspace.explain_model(model, data.head(40), method="acme.summary")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([[{"income": (1.0, 2.0)}], []], "changes 'income', which may not change"),
        ([[{"wealth": (1.0, 2.0)}], []], "no input of this model"),
        ([[{"colour": ("red", "blue")}]], "each of the 2 rows"),
    ],
)
def test_changes_of_what_may_not_change_are_one_error_whoever_found_them(tmp_path, installed, changes, words):
    class Finder(Explainer):
        type = "acme.finder"
        scope = "changes"

        def explain(self, model, data, background, **options):
            ones = [[1.0] * len(row) for row in changes]
            return Counterfactuals(self.type, "good", changes, ones, ones)

    with opened(tmp_path, immutable=["income"]) as workspace:
        model, data = trained(workspace)
        installed(workspace, Finder)
        with pytest.raises(PluginError, match=words):
            workspace.counterfactuals(model, data.head(2), method="acme.finder")


# What callers pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": {"x": 3}}, "'groups' must be a mapping"),
        ({"groups": {"x": "income"}}, "'groups' must be a mapping"),
        ({"groups": "x"}, "'groups' must be a mapping"),
        ({"method": 3}, "'method' must be the name"),
        ({"players": object()}, "'players' is no JSON value"),
    ],
)
def test_options_that_no_record_could_hold_are_refused_before_any_work(plain, options, words):
    workspace, model, data = plain
    with pytest.raises(UsageError, match=words):
        workspace.explain(model, data.head(2), **options)


def test_immutable_must_be_a_list_of_fields(plain):
    workspace, model, data = plain
    for given in (3, "income", [3]):
        with pytest.raises(UsageError, match="'immutable' must be a list of fields"):
            workspace.counterfactuals(model, data.head(2), immutable=given)


@pytest.mark.parametrize("method", ["linear", "lime", "kernel", "exact"])
def test_a_policy_s_group_of_fields_that_this_model_lacks_changes_nothing(tmp_path, method):
    with opened(tmp_path, groups={"address": ["street", "city"]}, min_local_r2=0.0) as workspace:
        model, data = trained(workspace)
        assert workspace.explain(model, data.head(2), method=method).players == ("income", "colour")


def test_a_group_of_the_caller_s_with_the_name_of_a_group_of_the_policy_s_is_refused(tmp_path):
    with opened(tmp_path, groups={"both": ["income", "colour"]}) as workspace:
        model, data = trained(workspace)
        with pytest.raises(UsageError, match="another group of the name 'both'"):
            workspace.explain(model, data.head(2), groups={"both": ["income"]})
        assert workspace.explain(model, data.head(2), groups={"both": ["colour", "income"]}).players == ("both",)


@pytest.mark.parametrize("groups", [{}, {"who": ["mail", "income"]}, {"who": ["mail"], "what": ["phone", "income"]}])
def test_an_explainer_that_takes_groups_gets_the_masked_fields_among_them_and_its_record_is_replayed(tmp_path, installed, groups):
    policy = {"explain": {"groups": groups}, "masking": {"fields": {"mail": "pseudonym", "phone": "pseudonym"}}}
    generator = np.random.default_rng(0)
    income = generator.normal(size=80)
    contact = {"mail": [f"{row % 3}@example.org" for row in range(80)], "phone": [f"+49 30 2312577{row % 4}" for row in range(80)]}
    with af.Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        installed(workspace, Shapley)
        data = workspace.load(pa.table({"income": income, **contact, "y": np.where(income > 0, "good", "bad")}), target="y", name="toy")
        model = workspace.train("tabular.logistic", data)
        record = workspace.explain(model, data.head(2), method=Shapley.type)
        again = workspace.replay(record, data.head(2), model=model)
    together = next(player for player, fields in record.details["groups"].items() if "mail" in fields)
    assert "phone" in record.details["groups"][together] and together in record.players and not {"mail", "phone"} & set(record.players)
    assert again.bit_equal


def test_the_reason_for_a_method_counts_the_policy_s_groups_as_one_player(tmp_path):
    with opened(tmp_path, groups={"both": ["income", "colour"]}) as workspace:
        _, data = trained(workspace)
        found = workspace.explain(workspace.train("tabular.mlp", data, epochs=2), data.head(1))
    assert found.details["reason"] == "all coalitions of 1 players can be enumerated"


def test_a_record_whose_interactions_do_not_fit_is_refused():
    good = Explanation("exact", "value", ("x",), np.ones((2, 1)), np.zeros(2), np.ones(2), interactions=np.ones((2, 1, 1))).to_json()
    assert Explanation.from_json(good).interactions.shape == (2, 1, 1)
    with pytest.raises(InvalidInput, match="do not fit"):
        Explanation.from_json({**good, "interactions": [[[1.0, 2.0]], [[1.0, 2.0]]]})
