"""A transformers encoder with a classification head: ``text.classifier``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Param
from torch import Tensor, nn
from torch.nn import functional

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import text_values
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities
from affidavit.interfaces.schema import FieldType
from affidavit.interfaces.training import TrainingEngine
from affidavit_plugins.text.adapters import RANK, SCALE, adapter_weights, add_adapters, encoder_weights
from affidavit_plugins.text.encoder import EncoderParts, build_encoder, load_encoder, open_tokenizer
from affidavit_plugins.torch_base.model import TorchModel, TorchParams
from affidavit_plugins.torch_base.seeding import seeded

if TYPE_CHECKING:
    from affidavit.artifacts import ArtifactReader, ArtifactWriter

PAD_MULTIPLE = 8
"""Rows are padded to a multiple of this many tokens, so that rows of like length share a batch."""

BATCH_TOKENS = 4096
"""Tokens that go through the encoder at once where there is no gradient."""


DEFAULTS = {
    ("none", False): (20, 0.002),
    ("none", True): (20, 0.02),
    ("lora", False): (3, 0.002),
    ("lora", True): (8, 0.01),
    ("full", False): (3, 0.0001),
    ("full", True): (8, 0.0005),
}
"""Epochs and learning rate by what is tuned and whether training is private.

Private training has few steps in an epoch, so it takes more and larger ones. The more weights learn, the less noise each can bear: a pretrained
encoder that learns as a whole takes small steps only.
"""


class TextParams(TorchParams):
    """Parameters of ``text.classifier``, besides those of every torch type.

    Attributes
    ----------
    encoder
        ``"minilm"``, a folder, a hub name or a configuration: see `affidavit_plugins.text.encoder.load_encoder`.
    fine_tune
        ``"none"`` runs the encoder once over the texts and trains the head on what it gives. ``"lora"`` also trains low-rank adapters on the
        encoder's linear layers, ``"full"`` the whole encoder, embedding tables too. In private training the norm of the noise grows with the
        number of weights that learn while the clipped gradients' does not: ``"full"`` needs many more rows and steps than the other two.
    max_tokens
        Texts are cut off after this many tokens.
    hidden
        Units of each hidden layer of the head; an empty list makes it linear.
    dropout
        Share of the head's hidden units left out in each training step.
    """

    encoder: str | dict[str, Any] = "minilm"
    fine_tune: Literal["none", "lora", "full"] = "none"
    max_tokens: Annotated[int, Param(ge=8, le=8192)] = 128
    hidden: tuple[Annotated[int, Param(ge=1, le=4096)], ...] = (64,)
    dropout: Annotated[float, Param(ge=0, lt=1)] = 0.0


def embed(encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """The mean of the last hidden states over the real tokens, scaled to length √dimension: rows × dimension.

    The scale makes an entry about one in size whatever the text, so that nothing needs to be learnt from the data to standardise it.
    """
    states: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
    return functional.normalize(mean, dim=-1) * math.sqrt(mean.shape[-1])


class FineTuned(nn.Module):
    """Encoder and head as one module, where the encoder learns too."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        for name, module in encoder.named_modules():
            if "pooler" in name:  # which `embed` does not use: in private training it would learn the noise
                module.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Scores of each row, rows × outputs, from token ids and mask, rows × tokens."""
        scores: Tensor = self.head(embed(self.encoder, ids, mask))
        return scores


class TextClassifier(TorchModel):
    """Classes (or numbers) from one text column, by any transformers encoder; the tokenizer travels in the artifact.

    A missing text is read as an empty one.
    """

    type: ClassVar[str] = "text.classifier"
    Params = TextParams
    capabilities: ClassVar[Capabilities] = Capabilities(private_training=True, probabilities=True, token_inputs=True)
    _parts: EncoderParts
    _column: str
    _limit: int
    _adapters: dict[str, int] | None

    @property
    def _frozen(self) -> bool:
        return bool(self.params.fine_tune == "none")

    @property
    def _stays(self) -> bool:
        """Whether the encoder's own weights stay as they were."""
        return bool(self.params.fine_tune != "full")

    def defaults(self, *, private: bool) -> tuple[int, float]:
        """Epochs and learning rate: see `DEFAULTS`."""
        return DEFAULTS[self.params.fine_tune, private]

    def prepare(self, data: Dataset, engine: TrainingEngine) -> None:
        """Find the text column and the encoder; nothing is read from the texts."""
        fields = list(data.schema)
        if len(fields) != 1 or fields[0].type not in (FieldType.TEXT, FieldType.CATEGORICAL):
            raise InvalidInput(
                f"Data set '{data.name}' has {len(fields)} features; a text model reads exactly one, of type text.",
                hint="Give the other columns another role than 'feature'.",
            )
        self._column = fields[0].name
        self._adapters = {"rank": RANK, "scale": SCALE} if self.params.fine_tune == "lora" else None
        self._use(load_encoder(self.params.encoder))

    def _use(self, parts: EncoderParts) -> None:
        self._parts = parts
        # Some encoders count positions from their padding id + 1: two places less than the table has always fit.
        self._limit = min(self.params.max_tokens, int(parts.config.get("max_position_embeddings") or 8192) - 2)
        self._tokenizer = open_tokenizer(parts.tokenizer, self._limit)
        self._pad = int(parts.config.get("pad_token_id") or 0)

    def build(self, outputs: int) -> nn.Module:
        """The head, alone or on its encoder."""
        layers: list[nn.Module] = []
        inputs = int(self._parts.config["hidden_size"])
        for units in self.params.hidden:
            layers += [nn.Linear(inputs, units), nn.GELU(), nn.Dropout(self.params.dropout)]
            inputs = units
        head = nn.Sequential(*layers, nn.Linear(inputs, outputs))
        if self._frozen:
            return head
        if self._adapters is not None:
            add_adapters(self._parts.module, rank=self._adapters["rank"], scale=self._adapters["scale"])
        return FineTuned(self._parts.module, head)

    def learnt(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's tensors; beside an encoder with adapters only these and the head, because the encoder stays as it was."""
        return super().learnt(module) if self._adapters is None else adapter_weights(module)

    def encode(self, data: Dataset) -> Any:
        """Token ids of each row; for a frozen encoder what it gives for them, rows × dimension."""
        texts = [text or "" for text in text_values(data, self._column)]
        tokens = [np.array(encoding.ids, dtype=np.int64) for encoding in self._tokenizer.encode_batch(texts)]
        if not self._frozen:
            return tokens
        vectors = torch.zeros((len(tokens), int(self._parts.config["hidden_size"])))
        with torch.no_grad():
            for indices in self._alike(tokens):
                vectors[indices] = embed(self._parts.module, *self._pad_rows(tokens, indices))
        return vectors

    def collate(self, inputs: Any, indices: Tensor) -> tuple[Tensor, ...]:
        """Vectors for a frozen encoder, else token ids and mask."""
        return (inputs[indices],) if self._frozen else self._pad_rows(inputs, indices)

    def predict_batches(self, inputs: Any, rows: int) -> Iterator[Tensor]:
        """Rows of the same padded length together, so that a row's padding does not depend on its company."""
        return super().predict_batches(inputs, rows) if self._frozen else self._alike(inputs)

    def _padded(self, length: int) -> int:
        return min(-(-max(length, 1) // PAD_MULTIPLE) * PAD_MULTIPLE, self._limit)

    def _alike(self, tokens: list[np.ndarray[Any, Any]]) -> Iterator[Tensor]:
        groups: dict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(tokens):
            groups[self._padded(len(ids))].append(row)
        for length, rows in sorted(groups.items()):
            step = max(1, BATCH_TOKENS // length)
            yield from (torch.tensor(rows[start : start + step]) for start in range(0, len(rows), step))

    def _pad_rows(self, tokens: list[np.ndarray[Any, Any]], indices: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask, rows × tokens."""
        chosen = [tokens[index] for index in indices.tolist()]
        shape = (len(chosen), self._padded(max((len(ids) for ids in chosen), default=1)))
        ids, mask = np.full(shape, self._pad), np.zeros(shape, dtype=np.int64)
        for row, values in enumerate(chosen):
            ids[row, : len(values)] = values
            mask[row, : len(values)] = 1
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def write_encoding(self, files: ArtifactWriter) -> None:
        """Write tokenizer and configuration, and the weights of an encoder that stayed as it was; trained ones are among the module's.

        The same encoder gives the same bytes, with adapters and without: a store that addresses files by content keeps them once.
        """
        files.text("tokenizer", self._parts.tokenizer)
        written = {"version": 1, "column": self._column, "config": self._parts.config}
        files.json("encoder", written if self._adapters is None else {**written, "adapters": self._adapters})
        if self._stays:
            files.tensors("encoder-weights", {name: tensor.numpy() for name, tensor in encoder_weights(self._parts.module).items()})

    def read_encoding(self, files: ArtifactReader) -> None:
        """Read what `write_encoding` wrote, without network or temporary files."""
        written = files.json("encoder")
        if written.get("version") != 1:
            raise InvalidInput(f"This encoder has version {written.get('version')}; this release reads version 1.")
        with seeded(0):
            module = build_encoder(written["config"])
        if self._stays:
            self.load_weights(module, files, "encoder-weights")
        self._adapters = {name: int(written["adapters"][name]) for name in ("rank", "scale")} if self.params.fine_tune == "lora" else None
        self._column = str(written["column"])
        self._use(EncoderParts(module, written["config"], files.text("tokenizer")))
