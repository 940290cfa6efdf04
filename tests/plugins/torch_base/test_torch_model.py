"""What the base does for every torch type, shown on a tiny one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit_plugins.torch_base import PlainEngine, TorchModel


class Tiny(TorchModel):
    """Two numeric columns, one linear layer with dropout before it."""

    type = "test.tiny"

    def prepare(self, data, engine):
        self.names = list(data.schema.names)

    def build(self, outputs):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(len(self.names), outputs))

    def encode(self, data):
        return torch.from_numpy(np.stack([data.to_numpy(name) for name in self.names], axis=1)).float()

    def write_encoding(self, files):
        files.json("encoding", self.names)

    def read_encoding(self, files):
        self.names = files.json("encoding")


def table(rows=200, seed=0, **columns):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    labels = np.where(x @ [2.0, -1.0] > 0, "yes", "no")
    return {"a": x[:, 0], "b": x[:, 1], "label": labels} | columns


def dataset(rows=200, seed=0, target="label", fields=None, **columns):
    return Dataset.from_arrow(table(rows, seed, **columns), target=target, fields=fields)


def weights(model):
    return torch.cat([tensor.flatten() for tensor in model.module.state_dict().values()])


def accuracy(model, data):
    return float((model.predict(data).values == np.array(data.to_list("label"))).mean())


class NoisyEngine(PlainEngine):
    """A private engine in the form of the protocol: Poisson batches, some empty, and each example's gradient clipped by itself."""

    private = True

    def __init__(self):
        self.parts = []

    def vocabulary(self, values):
        return None

    def begin(self, module, optimizer, *, rows, batch_size, epochs, seed):
        self.module, self.optimizer, self.rows, self.batch_size = module, optimizer, rows, batch_size
        self.rng = np.random.default_rng(0)
        return self

    def epoch(self):
        yield np.array([], dtype=np.int64)
        for _ in range(max(1, self.rows // self.batch_size)):
            yield np.flatnonzero(self.rng.random(self.rows) < self.batch_size / self.rows)

    def step(self, indices, losses):
        assert losses(indices[:0]).shape == (0,)
        total = [torch.zeros_like(p) for p in self.module.parameters()]
        for index in indices:
            loss = losses(np.array([index]))
            self.parts.append(tuple(loss.shape))
            gradients = torch.autograd.grad(loss.sum(), list(self.module.parameters()))
            norm = torch.sqrt(sum((g**2).sum() for g in gradients))
            for sum_, gradient in zip(total, gradients, strict=True):
                sum_ += gradient / max(1.0, float(norm))
        for parameter, sum_ in zip(self.module.parameters(), total, strict=True):
            parameter.grad = (sum_ + torch.from_numpy(self.rng.normal(size=sum_.shape)).float()) / self.batch_size
        self.optimizer.step()
        return float("nan")

    def close(self):
        pass


def test_it_learns_and_says_what_goes_in_and_out():
    data = dataset()
    model = Tiny(learning_rate=0.05).fit(data)
    assert accuracy(model, dataset(seed=1)) > 0.95
    assert model.signature.classes == ("no", "yes")
    assert model.signature.inputs.names == ("a", "b")


def test_probabilities_are_rows_that_sum_to_one_and_the_label_is_the_likeliest():
    answer = Tiny().fit(dataset()).predict(dataset(seed=1))
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert list(answer.values) == [answer.classes[i] for i in answer.probabilities.argmax(axis=1)]


def test_the_same_seed_gives_the_same_weights_bit_for_bit_whatever_the_global_generator_did():
    first = weights(Tiny(patience=3).fit(dataset(), Training(seed=4)))
    torch.rand(17)
    again = weights(Tiny(patience=3).fit(dataset(), Training(seed=4)))
    other = weights(Tiny(patience=3).fit(dataset(), Training(seed=5)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_random_state_is_never_touched():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    model = Tiny().fit(dataset())
    model.predict(dataset())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_trainings_in_several_threads_do_not_change_each_other():
    alone = [weights(Tiny(epochs=5).fit(dataset(), Training(seed=seed))) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: weights(Tiny(epochs=5).fit(dataset(), Training(seed=seed))), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_predictions_in_several_threads_are_those_of_one():
    model, data = Tiny().fit(dataset()), dataset(rows=3000, seed=2)
    expected = model.predict(data).probabilities
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: model.predict(data).probabilities, range(8)):
            assert np.array_equal(answer, expected)


def test_one_row_answers_as_it_does_in_a_batch_longer_than_a_chunk():
    model, data = Tiny().fit(dataset()), dataset(rows=2500, seed=2)
    together = model.predict(data).probabilities
    for row in (0, 1023, 1024, 2499):
        np.testing.assert_allclose(model.predict(data.take([row])).probabilities[0], together[row], atol=1e-6)


def test_an_empty_batch_gives_an_empty_answer():
    answer = Tiny().fit(dataset()).predict(dataset().head(0))
    assert answer.probabilities.shape == (0, 2)
    assert len(answer) == 0


def test_regression_answers_in_the_targets_own_units():
    x = np.random.default_rng(1).normal(size=400)
    data = Dataset.from_arrow({"a": x, "b": x**2, "y": 1e6 + 1e3 * x}, target="y", fields={"y": {"type": "numeric"}})
    answer = Tiny(epochs=60, learning_rate=0.05).fit(data).predict(data)
    assert answer.probabilities is None
    assert float(np.abs(answer.values - data.to_numpy("y")).mean()) < 200


def test_saved_and_loaded_it_answers_the_same(saved, loaded):
    data = dataset()
    model = Tiny().fit(data)
    files = saved(model)
    assert set(files) == {"weights.safetensors", "target.json", "encoding.json"}
    copy = loaded(model, files)
    assert np.array_equal(copy.predict(data).probabilities, model.predict(data).probabilities)
    assert copy.signature == model.signature
    assert saved(copy) == files


def test_weights_that_do_not_fit_are_refused(saved, loaded):
    model = Tiny().fit(dataset())
    files = saved(model) | {"encoding.json": b'["a","b","c"]'}
    with pytest.raises(IntegrityError, match=r"test\.tiny"):
        loaded(model, files)


def test_an_unfitted_model_refuses_to_predict_and_to_save(saved):
    for action in (lambda: Tiny().predict(dataset()), lambda: saved(Tiny()), lambda: Tiny().torch_view()):
        with pytest.raises(UsageError, match="not fitted"):
            action()


def test_a_fit_that_fails_leaves_the_model_unfitted():
    model = Tiny().fit(dataset())

    def cancel(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(dataset(), Training(report=cancel))
    with pytest.raises(UsageError, match="not fitted"):
        model.predict(dataset())


def test_progress_counts_epochs():
    seen = []
    Tiny(epochs=3).fit(dataset(), Training(report=seen.append))
    assert [(p.done, p.total) for p in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_early_stopping_ends_training_and_never_trains_on_validation_rows():
    # The validation rows say the opposite, so every epoch makes their loss higher: the first epoch's weights are the best.
    opposite = table(seed=1)
    opposite["label"] = np.where(opposite["label"] == "yes", "no", "yes")
    seen = []
    training = Training(validation=Dataset.from_arrow(opposite, target="label"), report=seen.append)
    stopped = Tiny(epochs=50, patience=2, learning_rate=0.05).fit(dataset(), training)
    assert len(seen) == 1 + 3
    once = Tiny(epochs=1, learning_rate=0.05).fit(dataset())
    assert torch.equal(weights(stopped), weights(once))


def test_early_stopping_without_validation_rows_holds_some_out():
    seen = []

    class Spy(PlainEngine):
        def begin(self, module, optimizer, *, rows, **rest):
            seen.append(rows)
            return super().begin(module, optimizer, rows=rows, **rest)

    Tiny(patience=3).fit(dataset(rows=200), Training(engine=Spy()))
    Tiny().fit(dataset(rows=200), Training(engine=Spy()))
    assert seen == [170, 200]


@pytest.mark.parametrize("case", ["patience", "validation"])
def test_private_training_refuses_to_read_validation_rows(case):
    model = Tiny(patience=2) if case == "patience" else Tiny()
    with pytest.raises(UsageError, match="cannot stop early in private training"):
        model.fit(dataset(), Training(engine=NoisyEngine(), validation=dataset(seed=1) if case == "validation" else None))


def test_the_same_loop_trains_under_a_private_engine_with_empty_batches_and_single_examples():
    engine, seen = NoisyEngine(), []
    model = Tiny(learning_rate=0.05, batch_size=40).fit(dataset(), Training(engine=engine, report=seen.append))
    assert set(engine.parts) == {(1,)}
    assert accuracy(model, dataset(seed=1)) > 0.9
    assert not any("loss" in p.message for p in seen)


def test_the_default_batch_of_private_training_does_not_depend_on_the_rows():
    model = Tiny()
    assert {model.settings(rows, private=True).batch_size for rows in (1, 100, 10**6)} == {256}
    assert [model.settings(rows, private=False).batch_size for rows in (1, 100, 10**6)] == [1, 12, 64]


def test_l1_makes_exact_zeros_and_l2_smaller_weights():
    plain, sparse, small = (Tiny(epochs=40, learning_rate=0.05, **p).fit(dataset(b=np.zeros(200))) for p in ({}, {"l1": 0.1}, {"l2": 0.5}))
    columns = [model.module[1].weight for model in (plain, sparse, small)]
    assert bool((columns[0][:, 1] != 0).all())
    assert bool((columns[1][:, 1] == 0).all())
    assert columns[2].abs().sum().item() < columns[0].abs().sum().item()


def test_a_weight_column_decides_between_contradictory_rows():
    labels = np.array(["no", "yes"] * 100)
    data = dataset(a=np.ones(200), b=np.ones(200), label=labels, w=np.where(labels == "yes", 9.0, 1.0), fields={"w": {"role": "weight"}})
    model = Tiny(epochs=60, learning_rate=0.05).fit(data)
    assert model.predict(data).score("yes")[0] == pytest.approx(0.9, abs=0.03)
    assert model.signature.inputs.names == ("a", "b")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_bad_weights_are_refused_without_quoting_them(bad):
    weight = pa.array([bad] + [1.0] * 199)
    schema = dataset(w=np.ones(200), fields={"w": {"role": "weight"}})
    with pytest.raises(InvalidInput, match="Weight column 'w'"):
        Tiny().fit(schema.replace_column("w", weight))


def test_a_data_set_without_target_or_features_is_refused():
    with pytest.raises(UsageError, match="no target"):
        Tiny().fit(dataset(target=None))
    with pytest.raises(InvalidInput, match="no feature columns"):
        Tiny().fit(dataset(fields={name: {"role": "identifier"} for name in ("a", "b")}))


def test_a_validation_label_that_training_lacks_is_refused_without_quoting_it():
    rows = table(seed=1)
    rows["label"] = np.where(np.arange(200) == 3, "secret", rows["label"])
    with pytest.raises(InvalidInput, match="1 rows with a class that training did not have") as error:
        Tiny(patience=2).fit(dataset(), Training(validation=Dataset.from_arrow(rows, target="label")))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("params", [{"epochs": 0}, {"learning_rate": float("inf")}, {"l1": -1}, {"optimizer": "lbfgs"}, {"batch_size": 0}, {"lr": 1}])
def test_wrong_parameters_are_refused_by_name(params):
    with pytest.raises(InvalidInput, match=next(iter(params))):
        Tiny(**params)


def test_the_torch_view_computes_what_predict_does():
    data = dataset()
    model = Tiny().fit(data)
    view = model.torch_view()
    with torch.inference_mode():
        scores = view.module(view.encode(data))
    np.testing.assert_allclose(torch.softmax(scores.double(), dim=1).numpy(), model.predict(data).probabilities, atol=1e-6)


class Normed(Tiny):
    """A network with BatchNorm."""

    type = "test.normed"

    def build(self, outputs):
        return nn.Sequential(nn.Linear(len(self.names), 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, outputs))


@pytest.mark.parametrize("private", [False, True])
def test_a_network_with_batchnorm_comes_back_as_it_was_trained(private, saved, loaded):
    """A private engine may have put GroupNorm in its place, which has no running statistics to save."""
    from affidavit.policy import PrivacyPolicy
    from affidavit_governance.privacy.training.engine import PrivateEngine

    policy = PrivacyPolicy(epsilon=50, noise_multiplier=0.7, replace_batchnorm=True)
    engine = PrivateEngine(policy, reserve=lambda events: None) if private else PlainEngine()
    data = dataset(300)
    model = Normed(epochs=2).fit(data, Training(engine=engine))
    back = loaded(model, saved(model))
    assert isinstance(back.module[1], nn.GroupNorm if private else nn.BatchNorm1d)
    assert np.array_equal(back.predict(data).probabilities, model.predict(data).probabilities)
