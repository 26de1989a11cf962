"""A classifier of short texts and its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from replication.data import labelled
from replication.evals.reader import Reader
from replication.methods.merge import load_weights
from replication.models import load_tokenizer

BATCH = 64  # texts at once


@dataclass(frozen=True)
class Classifier(Reader):
    """Opens a classifier: untuned (with a head drawn from its form's seed), or tuned, adapters merged."""

    @torch.inference_mode()
    def logits(self, texts: list[str], *, seq_len: int) -> np.ndarray:
        """What it answers to every text, cut and padded as in training: float64 (texts, labels)."""
        encoded = labelled.encode(texts, load_tokenizer(self.weights.base), seq_len=seq_len)
        model = self._open()
        found = []
        for start in range(0, len(texts), BATCH):
            ids, mask = (torch.from_numpy(part[start : start + BATCH]) for part in (encoded.ids, encoded.mask))
            answer = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
            found.append(answer.logits.double().cpu().numpy())
            if self.watch is not None:
                self.watch(min(start + BATCH, len(texts)), len(texts))
        return np.concatenate(found)

    def _open(self) -> PreTrainedModel:
        model = load_weights(self.weights, mend=self.mend)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()  # type: ignore[arg-type]
