"""The attention "varlen" against transformers' masked paths, and that documents are apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from replication import attention
from replication.config import IFT, AdamW, Budget, LoRA, Run, Source, Speed, Trapezoid
from replication.train import train

ROWS = [[5, 1, 9, 2, 7], [24], [3, 21], [1] * 4 + [20]]
SHAPE = {
    "vocab_size": 40, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip


def model_of(kind: str, implementation: str, **changed: float) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation=implementation, **changed))
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, attn_implementation=implementation, **changed))


def packed_rows() -> dict[str, torch.Tensor]:
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in ROWS])
    ids = torch.randint(40, positions.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "position_ids": positions}


def logits_and_gradients(
    model: PreTrainedModel, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(**batch, use_cache=False).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(
    one: tuple[torch.Tensor, dict[str, torch.Tensor]], other: tuple[torch.Tensor, dict[str, torch.Tensor]]
) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-5, atol=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        assert (gradient - other[1][name]).norm() <= 1e-5 * other[1][name].norm(), name


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("reference", ["sdpa", "eager"])
def test_packed_rows_give_the_logits_and_gradients_of_the_masked_paths(kind: str, reference: str) -> None:
    batch = packed_rows()
    ours = logits_and_gradients(model_of(kind, "varlen"), batch)
    assert_same(ours, logits_and_gradients(model_of(kind, reference), batch))


@pytest.mark.parametrize("positions", ["none", "plain"])
def test_blocks_of_one_document_are_those_of_sdpa_to_the_bit(positions: str) -> None:
    batch = packed_rows()
    del batch["position_ids"]
    if positions == "plain":
        batch["position_ids"] = torch.arange(24).expand(4, 24)
    ours = logits_and_gradients(model_of("llama", "varlen"), batch)
    theirs = logits_and_gradients(model_of("llama", "sdpa"), batch)
    assert torch.equal(ours[0], theirs[0])
    assert all(torch.equal(ours[1][name], theirs[1][name]) for name in theirs[1])


def test_a_document_does_not_see_the_one_before_it() -> None:
    model, batch = model_of("llama", "varlen").eval(), packed_rows()
    changed = batch["input_ids"].clone()
    changed[:, 0] = (changed[:, 0] + 1) % 40
    with torch.no_grad():
        before = model(**batch, use_cache=False).logits
        after = model(**batch | {"input_ids": changed}, use_cache=False).logits
    for row, lengths in enumerate(ROWS):
        assert not torch.equal(before[row, 0], after[row, 0])
        assert torch.equal(before[row, lengths[0] :], after[row, lengths[0] :])


def test_a_packed_document_has_the_logits_it_has_alone() -> None:
    model, batch = model_of("qwen2", "varlen").eval(), packed_rows()
    with torch.no_grad():
        together = model(**batch, use_cache=False).logits[0, 6:15]
        alone = model(batch["input_ids"][:1, 6:15], use_cache=False).logits[0]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_recomputed_activations_give_the_same_gradients_with_dropout_too() -> None:
    batch, found = packed_rows(), []
    for recompute in (False, True):
        model = model_of("llama", "varlen", attention_dropout=0.3).train()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(3)
        found.append(logits_and_gradients(model, batch))
    assert_same(found[0], found[1])


def test_attention_dropout_drops_while_training_only_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 8, 16)
    value = torch.rand(1, 2, 8, 16)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])
    kept, _ = attention.attend(None, query, key, value, None, position_ids=positions)
    draws = [
        attention.attend(None, query, key, value, None, position_ids=positions, dropout=0.2)[0] for _ in range(800)
    ]
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(torch.stack(draws).mean(0), kept, rtol=0.1, atol=0.03)
    model, batch = model_of("llama", "varlen", attention_dropout=0.3).eval(), packed_rows()
    assert torch.equal(model(**batch, use_cache=False).logits, model(**batch, use_cache=False).logits)


def test_documents_are_found_by_hand() -> None:
    positions = torch.tensor([[0, 1, 0, 0], [0, 1, 2, 3], [7, 8, 0, 1]])
    found = attention.documents(positions, 3, 4, torch.device("cpu"))
    assert found.bounds.tolist() == [0, 2, 3, 4, 8, 10, 12]
    assert found.lengths == (2, 1, 1, 4, 2, 2)
    assert found.longest == 4


def test_positions_changed_in_place_are_looked_at_again() -> None:
    positions = torch.tensor([[0, 1, 2, 3]])
    assert attention.documents(positions, 1, 4, torch.device("cpu")).lengths == (4,)
    positions[0, 2:] = torch.tensor([0, 1])
    assert attention.documents(positions, 1, 4, torch.device("cpu")).lengths == (2, 2)
    assert attention.documents(positions, 2, 4, torch.device("cpu")).lengths == (2, 2, 2, 2)


def test_a_padding_mask_or_a_cache_is_refused() -> None:
    model, batch = model_of("llama", "varlen").eval(), packed_rows()
    with pytest.raises(ValueError, match="takes no attention_mask.*sdpa"):
        model(batch["input_ids"], attention_mask=torch.ones(4, 24, dtype=torch.long), use_cache=False)
    with torch.no_grad(), pytest.raises(ValueError, match="takes no mask, cache or sliding window"):
        cache = model(batch["input_ids"], use_cache=True).past_key_values
        model(batch["input_ids"][:, :1], past_key_values=cache)


def test_the_choice_of_attention_is_not_saved_with_the_weights(tmp_path: object) -> None:
    model_of("llama", "varlen").save_pretrained(str(tmp_path))
    assert LlamaForCausalLM.from_pretrained(str(tmp_path)).config._attn_implementation == "sdpa"
    loaded = LlamaForCausalLM.from_pretrained(str(tmp_path), attn_implementation="varlen")
    assert loaded.config._attn_implementation == "varlen"


def test_a_packed_run_trains_the_same_document_by_document(
    tiny_model: Path, tiny_instructions: Path, tmp_path: Path
) -> None:
    plain = Run(
        scale="test", study="varlen", task=IFT(Source(str(tiny_instructions)), "Q: {prompt} A: "),
        model=str(tiny_model), method=LoRA(4, 8), optim=AdamW(3e-3), schedule=Trapezoid(2), budget=Budget(5, "steps"),
        global_batch=4, micro_batch=2, seq_len=64,
    )  # fmt: skip
    losses = []
    for speed in (Speed(), Speed(attention="varlen"), Speed(attention="varlen", recompute=True)):
        seen: list[float] = []
        run = replace(plain, study=f"{speed.attention}-{speed.recompute}".lower(), speed=speed)
        train(run, tmp_path, watch=lambda progress, seen=seen: seen.append(progress.loss))  # type: ignore[misc]
        losses.append(seen)
    assert len(losses[0]) == 5
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_flash_kernel_gives_what_masked_attention_gives() -> None:
    batch = {name: tensor.cuda() for name, tensor in packed_rows().items()}
    found = []
    for implementation in ("varlen", "sdpa"):
        model = model_of("llama", implementation).to("cuda", torch.bfloat16)
        logits = model(**batch, use_cache=False).logits
        logits.float().square().sum().backward()
        found.append([logits, *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        # bf16 keeps 8 bits: rounding errors of about 1/256 add up over two layers.
        assert (ours - theirs).float().norm() <= 0.03 * theirs.float().norm()
