"""Encoders of the transformers library on the tape: shared positions, tied weights, adapters, checkpointing; against brute force."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from affidavit.errors import Refused
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.tape import Tape

transformers = pytest.importorskip("transformers")

EXAMPLES, TOKENS = 4, 8


def tiny(attention="sdpa", **options):
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertConfig(**settings, **dropout, max_position_embeddings=12, attn_implementation=attention, **options)


class Classifier(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(16, 3)

    def forward(self, ids, mask):
        return self.head(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1))


def batch():
    ids = torch.randint(1, 40, (EXAMPLES, TOKENS), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 0, 0  # padding: token 0, whose row of the table gets no gradient
    ids[2, 1:4] = 7  # a token that is there several times
    return ids, mask, torch.tensor([0, 2, 1, 1])


def losses_of(module):
    ids, mask, labels = batch()
    return lambda rows: functional.cross_entropy(module(ids[rows], mask[rows]), labels[rows], reduction="none")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradients_of_a_whole_encoder_are_those_of_brute_force(attention, check, filled):
    module = filled(Classifier(transformers.BertModel(tiny(attention), add_pooling_layer=False)))
    found = check(module, losses_of(module))
    # Positions and token types are looked up once for all examples, which each still have a gradient of their own.
    positions = [each["encoder.embeddings.position_embeddings.weight"] for each in found]
    assert all(bool(gradient[:TOKENS].any()) for gradient in positions)
    assert not torch.equal(positions[0], positions[1])
    assert not bool(found[1]["encoder.embeddings.word_embeddings.weight"][0].any())


def test_a_part_of_one_example_needs_no_repeating(check, filled):
    module = filled(Classifier(transformers.BertModel(tiny(), add_pooling_layer=False)))
    ids, mask, _ = batch()
    check(module, lambda rows: module(ids[rows], mask[rows]).sin().sum(1), examples=1)


def test_gradients_of_adapters_are_those_of_brute_force(check, filled):
    peft = pytest.importorskip("peft")
    encoder = transformers.BertModel(tiny(), add_pooling_layer=False)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"), encoder)
    module = filled(Classifier(encoder))
    found = check(module, losses_of(module))
    names = set(found[0])
    assert {name for name in names if "lora_" not in name} == {"head.weight", "head.bias"}
    assert len(names) == 2 + 2 * 2 * 6
    assert all(bool(gradient.any()) for gradient in found[0].values())


def test_gradients_of_adapters_on_a_table_are_those_of_brute_force(check, filled):
    peft = pytest.importorskip("peft")
    encoder = peft.get_peft_model(
        transformers.BertModel(tiny(), add_pooling_layer=False), peft.LoraConfig(r=2, target_modules=["query", "word_embeddings"])
    )
    module = filled(Classifier(encoder))
    ids, mask, _ = batch()
    # Without padding: torch.func.vmap gives the padding's row a gradient, which torch's own embedding does not.
    found = check(module, lambda rows: module(ids[rows].clamp_min(1), mask[rows]).sin().sum(1))
    assert any("lora_embedding_A" in name for name in found[0])


def test_gradients_of_weights_tied_between_table_and_output_are_those_of_brute_force(check, filled):
    model = filled(transformers.BertForMaskedLM(tiny(tie_word_embeddings=True)))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    ids, mask, _ = batch()

    def losses(rows):
        logits = model(input_ids=ids[rows], attention_mask=mask[rows]).logits
        return functional.cross_entropy(logits.transpose(1, 2), ids[rows], reduction="none").sum(1)

    check(model, losses)


def checkpointed(reentrant, filled):
    encoder = transformers.BertModel(tiny(), add_pooling_layer=False)
    encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    return filled(Classifier(encoder))


def test_gradients_of_a_checkpointed_encoder_are_those_of_brute_force(check, filled):
    module = checkpointed(False, filled)
    layer, calls = module.encoder.encoder.layer[0].output.dense, []
    layer.register_forward_hook(lambda *_: calls.append(1))
    check(module, losses_of(module))
    # Forward for the whole batch without the tape, twice for each example, twice on the tape: it was computed again while gradients passed.
    assert len(calls) == 1 + 2 * EXAMPLES + 2


def test_the_checkpointing_that_hides_parameters_is_refused_with_the_fix(filled):
    module = checkpointed(True, filled)
    trained = {parameter: name for name, parameter in module.named_parameters()}
    tape = Tape(trained)
    attached = Attached(units(module, trained), tape)
    with tape.recording(EXAMPLES):
        values = losses_of(module)(torch.arange(EXAMPLES))
    with pytest.raises(Refused, match="use_reentrant=False"):
        tape.backward(values)
    attached.remove()


@pytest.mark.parametrize("name", ["Roberta", "DistilBert", "Electra", "ModernBert", "GPT2"])
def test_gradients_of_other_architectures_are_those_of_brute_force(name, check, filled):
    sizes = {"vocab_size": 40, "pad_token_id": 0, "max_position_embeddings": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    if name == "DistilBert":
        sizes = {"vocab_size": 40, "pad_token_id": 0, "max_position_embeddings": 12, "n_layers": 1, "n_heads": 2, "dim": 16, "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip
    elif name == "GPT2":
        sizes = {
            "vocab_size": 40,
            "n_positions": 12,
            "n_layer": 1,
            "n_head": 2,
            "n_embd": 16,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }
    else:
        sizes |= {"intermediate_size": 24}
        sizes |= {} if name == "ModernBert" else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = getattr(transformers, f"{name}Config")(**sizes)
    encoder = getattr(transformers, f"{name}Model")(config)
    for part, layer in encoder.named_modules():
        if "pooler" in part:
            layer.requires_grad_(False)
    module = filled(Classifier(encoder))
    check(module, losses_of(module))


def test_a_table_looked_up_by_pairs_of_positions_is_refused_by_name(check, filled):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40, "pad_token_id": 0}
    encoder = transformers.MPNetModel(transformers.MPNetConfig(**sizes, max_position_embeddings=12), add_pooling_layer=False)
    module = filled(Classifier(encoder))
    with pytest.raises(Refused, match=r"relative_attention_bias\.weight"):
        check(module, losses_of(module))
