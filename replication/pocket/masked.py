"""A small DistilBERT: its vocabulary, its architecture, and how it is pretrained by masked language modelling.

DistilBERT as it is, cut down, because no pretrained one is that small. It reads the texts that it will be tuned on,
never their labels. A share of the words is masked and asked for twice:

    at their own places, from the words around them            masked language modelling (Devlin et al., 2018)
    at the place of [CLS], which sees the whole text           so that the head has something to read

The real base got its [CLS] from BERT's next-sentence task and from 3.3 billion words. With a quarter of a million the
first part alone leaves [CLS] as it was drawn: a head on it then told no tweet from another. Muon steps the matrices,
AdamW the rest.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional
from tqdm import tqdm
from transformers import DistilBertConfig, DistilBertForMaskedLM, PreTrainedTokenizerFast

from replication.data.labelled import encode
from replication.pocket import made as cache

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4, by BERT's names
PAD, UNKNOWN, CLS, SEP, MASK = range(5)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the model but the texts.

    `words` and `pieces` are how many whole words and parts of rarer words the vocabulary lists beside single letters;
    `length` is that of the texts in tokens, beyond which they are cut; `share` of their tokens is masked.
    """

    words: int = 2_500
    pieces: int = 800
    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 256
    length: int = 40
    epochs: int = 4
    batch: int = 32
    rate: float = 2e-3
    matrix_rate: float = 1e-2
    warmup: int = 50
    decay: float = 0.01
    share: float = 0.3
    seed: int = 0


def made(name: str, texts: Sequence[str], recipe: Recipe) -> Path:
    """The folder of a model that has read these texts, in the hub's layout; made once on a machine, then kept."""

    def make(folder: Path) -> None:
        _LOG.info("pretraining a small DistilBERT in %s (once, about a minute)", folder)
        tokenizer = new_tokenizer(texts, recipe)
        pretrained(texts, tokenizer, recipe).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))

    return cache.folder(name, {"recipe": asdict(recipe), "texts": list(texts)}, make)


# ---------------------------------------------------------------- vocabulary


def new_tokenizer(texts: Sequence[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT's, in lower case, with a vocabulary counted on the texts."""
    normal, cut = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normal.normalize_str(text)))
    tokens = vocabulary(counts, words=recipe.words, pieces=recipe.pieces)
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token=SPECIAL[UNKNOWN]))
    backend.normalizer, backend.pre_tokenizer = normal, cut
    ends = [(SPECIAL[CLS], CLS), (SPECIAL[SEP], SEP)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=SPECIAL[PAD],
        unk_token=SPECIAL[UNKNOWN],
        cls_token=SPECIAL[CLS],
        sep_token=SPECIAL[SEP],
        mask_token=SPECIAL[MASK],
        model_input_names=["input_ids", "attention_mask"],
        truncation_side="left",
        model_max_length=recipe.length,
    )


def vocabulary(counts: Counter[str], *, words: int, pieces: int) -> list[str]:
    """Special tokens, letters, the most frequent words, and parts of two to four letters of the others.

    The trainers of `tokenizers` give another vocabulary on every call (their ties follow a hash); this one is the same.
    """
    letters = sorted({letter for word in counts for letter in word})
    known = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    parts: Counter[str] = Counter()
    for word in known[words:]:
        for size in (2, 3, 4):
            for start in range(len(word) - size + 1):
                # The letters saved by it.
                parts[("##" if start else "") + word[start : start + size]] += size - 1
    chosen = sorted(parts, key=lambda part: (-parts[part], part))[:pieces]
    return list(dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *known[:words], *chosen]))


# ---------------------------------------------------------------- pretraining


def pretrained(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> DistilBertForMaskedLM:
    """A model that has read the texts `recipe.epochs` times.

    Raises:
        RuntimeError: its loss is not finite.
    """
    ids = encode(list(texts), tokenizer, seq_len=recipe.length).ids
    model = new_model(ids, len(tokenizer), recipe)
    optimisers = _optimisers(model, recipe)
    rng = np.random.default_rng(recipe.seed)
    batches = [batch for _ in range(recipe.epochs) for batch in _batches(ids, recipe.batch, rng)]
    for step, batch in enumerate(tqdm(batches, desc="pretraining a small DistilBERT", unit="step", disable=None)):
        read, asked = masked(batch, len(tokenizer), recipe.share, rng)
        loss = masked_loss(model, torch.from_numpy(read), torch.from_numpy(batch), torch.from_numpy(asked))
        _step(model, loss, optimisers, min((step + 1) / recipe.warmup, (len(batches) - step) / len(batches)))
    if not math.isfinite(float(loss.detach())):
        raise RuntimeError(f"the small DistilBERT was not pretrained: its loss is {float(loss.detach())} at the end")
    return model.eval()


def new_model(ids: np.ndarray, size: int, recipe: Recipe) -> DistilBertForMaskedLM:
    """A model with random weights, its output's bias at how often each token occurs; torch's global state is kept."""
    config = DistilBertConfig(
        vocab_size=size,
        max_position_embeddings=recipe.length,
        n_layers=recipe.layers,
        n_heads=recipe.heads,
        dim=recipe.width,
        hidden_dim=recipe.hidden,
        pad_token_id=PAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = DistilBertForMaskedLM(config)
    counts = np.bincount(ids[ids >= UNKNOWN].ravel(), minlength=size) + 0.5
    with torch.no_grad():
        model.vocab_projector.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))
    # Dropout of the architecture stays in its configuration for whoever tunes the model; a few epochs do without.
    return model.eval()


def masked(ids: np.ndarray, size: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the model reads and where it is asked, both in the shape of `ids`.

    Of the tokens asked for, 80 % are masked, 10 % are another one and 10 % are left, as in BERT.
    """
    asked = (rng.random(ids.shape) < share) & ~np.isin(ids, (PAD, CLS, SEP))
    how = rng.random(ids.shape)
    read = np.where(asked & (how < 0.8), MASK, ids)
    other = rng.integers(len(SPECIAL), size, ids.shape)
    return np.where(asked & (how >= 0.9), other, read), asked


def masked_loss(
    model: DistilBertForMaskedLM, read: torch.Tensor, ids: torch.Tensor, asked: torch.Tensor
) -> torch.Tensor:
    """Mean nats of the words asked for, from their own places and from that of [CLS]."""
    states = model.distilbert(read, attention_mask=(ids != PAD).long())[0]  # (batch, length, width)
    whole = states[:, :1].expand_as(states)
    both = torch.cat([states[asked], whole[asked]])
    logits = model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(both))))
    return functional.cross_entropy(logits, ids[asked].repeat(2))


def _batches(ids: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All texts once, those of about the same length together, cut to the longest of a batch; in random order."""
    lengths = (ids != PAD).sum(axis=1)
    order = np.argsort(lengths + rng.uniform(0, 6, len(ids)), kind="stable")
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    for place in rng.permutation(len(groups)):
        group = groups[place]
        yield ids[group, : lengths[group].max()]


def _optimisers(model: DistilBertForMaskedLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.distilbert.transformer.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay, foreach=True),
    ]


def _step(
    model: torch.nn.Module, loss: torch.Tensor, optimisers: Sequence[torch.optim.Optimizer], factor: float
) -> None:
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * factor
        optimiser.step()
