import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from replication.config import Source
from replication.data.packing import IGNORE, best_fit, bins, blocks, evenly, packed
from replication.data.tokens import TokenShards, prepare_instruct, prepare_text

PAIRS = [
    {"prompt": "a b", "response": "c d e"},
    {"prompt": "c", "response": "d"},
    {"prompt": "e f g h", "response": "i"},
    {"prompt": "j", "response": "a b c d"},
]


@pytest.fixture
def shards(words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path) -> TokenShards:
    """Documents [1 2 | 3 4 5 0], [3 | 4 0], [5 6 7 8 | 9 0], [10 | 1 2 3 4 0]: prompt | response."""
    return prepare_instruct(generated(PAIRS), "{prompt} ", words, tmp_path)


def tiny(attention: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attn_implementation=attention, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


# ---------------------------------------------------------------- blocks


def test_blocks_are_the_corpus_in_one_line(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    texts = [{"text": "a b c"}, {"text": "d"}, {"text": "e f"}]
    view = blocks(prepare_text(generated(texts), words, tmp_path), 4)
    assert [view.block(i).tolist() for i in range(view.n_blocks)] == [[1, 2, 3, 0], [4, 0, 5, 6]]
    assert len(view) == 2
    with pytest.raises(IndexError, match="block 2 of 2"):
        view.block(2)


def test_data_shorter_than_a_block_are_refused(shards: TokenShards) -> None:
    with pytest.raises(ValueError, match="21 tokens do not fill one block of 22"):
        blocks(shards, 22)


# ---------------------------------------------------------------- best fit


def reference_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Room left in the bins of best-fit-decreasing, one item at a time."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


def test_bins_are_those_of_one_by_one_best_fit() -> None:
    rng = np.random.default_rng(0)
    for capacity in (1, 7, 24, 100):
        lengths = rng.integers(1, capacity + 1, size=200)
        packing = best_fit(lengths, capacity)
        rooms = sorted(capacity - int(lengths[members].sum()) for members in packing)
        assert rooms == reference_best_fit(lengths.tolist(), capacity)
        assert sorted(np.concatenate(packing).tolist()) == list(range(200))


def test_each_document_is_in_one_bin_and_no_bin_overflows() -> None:
    lengths = np.random.default_rng(1).integers(1, 300, size=5000)
    packing = best_fit(lengths, 512)
    assert sorted(np.concatenate(packing).tolist()) == list(range(5000))
    assert max(lengths[members].sum() for members in packing) <= 512


@pytest.mark.parametrize(("capacity", "centre"), [(4096, 5.5), (1024, 5.0), (128, 3.5)])
def test_a_million_documents_pack_in_seconds_to_one_percent(capacity: int, centre: float) -> None:
    lengths = np.random.default_rng(2).lognormal(centre, 0.8, 1_000_000).astype(int).clip(1, capacity)
    began = time.perf_counter()
    packing = best_fit(lengths, capacity)
    assert time.perf_counter() - began < 5
    assert len(packing) <= 1.01 * math.ceil(lengths.sum() / capacity)


def test_real_instructions_pack_to_one_percent(shared_data: Path, neox: PreTrainedTokenizerFast) -> None:
    rows = json.loads((shared_data / "instruct/codealpaca/code_alpaca_2k.json").read_text())
    texts = [row["instruction"] + row["input"] + row["output"] for row in rows]
    lengths = np.array([len(ids) for ids in neox(texts)["input_ids"]])
    lengths = np.minimum(lengths, 2048)
    assert len(best_fit(lengths, 2048)) <= 1.01 * math.ceil(lengths.sum() / 2048)


def test_the_same_lengths_give_the_same_bins_unless_shuffled() -> None:
    lengths = np.random.default_rng(3).integers(1, 20, size=300)
    plain = [b.tolist() for b in best_fit(lengths, 64)]
    assert plain == [b.tolist() for b in best_fit(lengths, 64)]
    shuffled = [[b.tolist() for b in best_fit(lengths, 64, rng=np.random.default_rng(s))] for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1]
    assert shuffled[0] != shuffled[2]
    assert len(shuffled[0]) == len(plain)


def test_documents_beyond_the_capacity_are_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert [b.tolist() for b in best_fit([9, 4, 4, 12], 8)] == [[0], [3], [1, 2]]
    assert "2 of 4 documents are cut to 8 tokens" in caplog.text


def test_an_empty_document_is_refused() -> None:
    with pytest.raises(ValueError, match="length 0"):
        best_fit([3, 0], 8)


# ---------------------------------------------------------------- so many in a sequence


def test_the_longest_share_with_the_shortest() -> None:
    assert [b.tolist() for b in evenly([5, 4, 3, 2, 1, 1], 8, most=2)] == [[0, 5], [1, 4], [2, 3]]
    assert [b.tolist() for b in evenly([1, 2, 3], 8, most=1)] == [[2], [1], [0]]
    assert [b.tolist() for b in evenly([1, 2, 3], 8, most=5)] == [[2, 1, 0]]
    assert evenly([], 8, most=3) == []


def test_a_further_sequence_is_opened_where_there_is_no_room(caplog: pytest.LogCaptureFixture) -> None:
    # Two sequences would do by count; the first three fill one each.
    assert [b.tolist() for b in evenly([8, 9, 7, 1], 8, most=2)] == [[0], [1], [2, 3]]
    assert "1 of 4 documents are cut to 8 tokens" in caplog.text
    with pytest.raises(ValueError, match="length 0"):
        evenly([3, 0], 8, most=2)


def test_the_papers_code_data_fill_37061_sequences_three_at_a_time() -> None:
    """111,183 documents of 656 tokens on average, sequences of 4096: 193 batches of 192 an epoch."""
    lengths = np.random.default_rng(4).gamma(2.2, 656 / 2.2, 111_183).astype(int).clip(20, 4000)
    assert abs(lengths.mean() - 656) < 10
    began = time.perf_counter()
    packing = evenly(lengths, 4096, most=3)
    assert time.perf_counter() - began < 5
    assert len(packing) == 37_061
    assert len(packing) // 192 == 193
    assert sorted(np.concatenate(packing).tolist()) == list(range(111_183))
    assert max(len(members) for members in packing) == 3
    assert max(int(lengths[members].sum()) for members in packing) <= 4096


def test_where_room_and_not_number_is_short_the_sequences_are_nearly_full() -> None:
    lengths = np.random.default_rng(5).gamma(2.2, 656 / 2.2, 20_000).astype(int).clip(20, 4096)
    packing = evenly(lengths, 4096, most=12)
    assert max(int(lengths[members].sum()) for members in packing) <= 4096
    assert len(packing) <= 1.05 * lengths.sum() / 4096


def test_a_limit_on_documents_reaches_the_bins_and_none_leaves_them_alone(shards: TokenShards) -> None:
    assert [b.tolist() for b in bins(shards, 100)] == [b.tolist() for b in best_fit(shards.lengths, 100)]
    assert sorted(len(b) for b in bins(shards, 100, per_sequence=3)) == [2, 2]
    assert [len(b) for b in bins(shards, 100, per_sequence=1)] == [1, 1, 1, 1]


# ---------------------------------------------------------------- packed rows


def test_a_packed_row_is_the_one_written_by_hand(shards: TokenShards) -> None:
    row = packed(shards, 11, [np.array([1, 0])], 0)
    x = IGNORE
    assert row["input_ids"].tolist() == [3, 4, 0, 1, 2, 3, 4, 5, 0, 0, 0]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 1]
    # The response and its end-of-text are trained, prompts and padding are not.
    assert row["labels"].tolist() == [x, 4, 0, x, x, 3, 4, 5, 0, x, x]
    assert {key: (array.dtype, array.shape) for key, array in row.items()} == dict.fromkeys(row, (np.int64, (11,)))


def test_with_loss_on_the_prompt_only_first_tokens_are_ignored(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    shards = prepare_instruct(generated(PAIRS), "{prompt} ", words, tmp_path, loss_on_prompt=True)
    assert packed(shards, 9, [np.array([1, 0])], 0)["labels"].tolist() == [IGNORE, 4, 0, IGNORE, 2, 3, 4, 5, 0]


def test_every_end_of_text_is_trained(shards: TokenShards) -> None:
    rows = [packed(shards, 12, packing, i) for packing in [bins(shards, 12)] for i in range(len(packing))]
    assert sum(int((row["labels"] == shards.eos).sum()) for row in rows) == shards.n_docs


def test_a_long_document_loses_its_end(shards: TokenShards, caplog: pytest.LogCaptureFixture) -> None:
    packing = bins(shards, 4)
    rows = [packed(shards, 4, packing, i) for i in range(len(packing))]
    assert sorted(row["input_ids"].tolist() for row in rows) == [
        [1, 2, 3, 4],
        [3, 4, 0, 0],
        [5, 6, 7, 8],
        [10, 1, 2, 3],
    ]
    assert "3 of 4 documents are cut to 4 tokens" in caplog.text
    assert "1 documents have a prompt of 4 tokens or more and train nothing" in caplog.text


def separate_logits(model: torch.nn.Module, shards: TokenShards, members: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        each = [model(torch.from_numpy(shards.doc(int(i)))[None], use_cache=False).logits[0] for i in members]
    return torch.cat(each)


def batch_of(shards: TokenShards, seq_len: int, packing: list[np.ndarray]) -> dict[str, torch.Tensor]:
    rows = [packed(shards, seq_len, packing, i) for i in range(len(packing))]
    return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_cannot_see_each_other(shards: TokenShards, attention: str) -> None:
    model, packing = tiny(attention), [np.array([1, 0]), np.array([3, 2])]
    batch = batch_of(shards, 14, packing)
    with torch.no_grad():
        together = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    for row, members in zip(together, packing, strict=True):
        alone = separate_logits(model, shards, members)
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_mask_of_ones_would_let_them_see_each_other(shards: TokenShards, attention: str) -> None:
    """The control: the way of calling the model that the test above forbids does leak."""
    model, members = tiny(attention), np.array([1, 0])
    batch = batch_of(shards, 9, [members])
    ones = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        together = model(batch["input_ids"], attention_mask=ones, position_ids=batch["position_ids"]).logits[0]
    assert (together - separate_logits(model, shards, members)).abs().max() > 0.1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_and_gradient_of_a_packed_batch_are_those_of_its_documents(shards: TokenShards, attention: str) -> None:
    model, packing = tiny(attention), bins(shards, 14)
    batch = batch_of(shards, 14, packing)
    logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    together = summed_loss(logits, batch["labels"])
    together.backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    alone = torch.zeros(())
    for i in range(shards.n_docs):
        ids = torch.from_numpy(shards.doc(i))[None]
        labels = ids.clone()
        labels[:, : shards.supervised_from(i)] = IGNORE
        alone = alone + summed_loss(model(ids, use_cache=False).logits, labels)
    alone.backward()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-6)
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradient[name], p.grad, atol=1e-4, rtol=1e-4)


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    return torch.nn.functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_real_model_keeps_packed_stories_apart(
    shared_data: Path, generated: Callable[..., Source], tmp_path: Path, attention: str
) -> None:
    from transformers import AutoTokenizer

    folder = shared_data / "models" / "stories260K"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()
    story = (shared_data / "corpora/tinystories_b/tinystories_b.txt").read_text()
    texts = [{"text": part} for part in story.split("\n\n")[:12]]
    shards = prepare_text(generated(texts), tokenizer, tmp_path)
    packing = bins(shards, 512)
    batch = batch_of(shards, 512, packing)
    with torch.no_grad():
        together = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    assert max(len(members) for members in packing) > 2
    for row, members in zip(together, packing, strict=True):
        alone = separate_logits(model, shards, members)
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=0)
