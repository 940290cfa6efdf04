"""How the conformance kit tries the text model types and the recognizer of names: with an encoder and a model that are small and quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affidavit.testing import ModelCase, RecognizerCase
from affidavit.testing.subjects import Case

_ENCODER = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

_LABELS = ("O", "B-PER", "I-PER", "B-LOC")
_WORDS = {"jana": "B-PER", "placeholder": "I-PER", "红": "B-PER", "隼": "I-PER", "oslo": "B-LOC", "上": "O", "海": "O"}


def _names_model(folder: Path) -> dict[str, Any]:
    """A token-classification model without layers, whose embedding of each word says the word's label."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=0, num_attention_heads=1, intermediate_size=8, max_position_embeddings=64,
        id2label=dict(enumerate(_LABELS)), label2id={label: at for at, label in enumerate(_LABELS)},
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        model = BertForTokenClassification(config)
        embeddings = model.bert.embeddings
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings, model.classifier):
            table.weight.zero_()
        for at, word in enumerate(vocabulary):
            embeddings.word_embeddings.weight[at, _LABELS.index(_WORDS.get(word, "O"))] = 1.0
        for at in range(len(_LABELS)):
            model.classifier.weight[at, at] = 5.0
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return {"path": str(folder)}


CASES: list[Case] = [
    ModelCase(name="text.classifier", params={"epochs": 8, "encoder": _ENCODER}),
    RecognizerCase(
        name="names",
        settings=_names_model,
        examples={
            "PERSON": [("please call Jana Placeholder about it", "Jana Placeholder"), ("收货人红隼，谢谢。", "红隼")],
            "LOCATION": [("the parcel goes to Oslo today", "Oslo")],
        },
        counterexamples=["please call nobody about it", "<PERSON> went to <LOCATION>"],
    ),
]
