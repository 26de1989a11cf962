"""Every gate passes on what is right, and fails, for the right reason, on the fault it guards against."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from replication import gates
from replication.config import LoRA
from replication.evals.generate import TransformersGenerator
from replication.evals.lengths import Pair
from replication.gates import Finding
from replication.methods import attach
from replication.methods.merge import load_merged
from replication.models import Weights, load_model, load_tokenizer


class Faulty(TransformersGenerator):
    """An engine that calls itself vLLM, in the number format `dtype`, and answers through `fault`."""

    def __init__(self, model: Any, tokenizer: Any, fault: Callable[[float], float], dtype: str = "float32") -> None:
        super().__init__(model, tokenizer)
        self.fault, self.dtype = fault, dtype

    def identity(self) -> dict[str, str]:
        return {"engine": "vllm", "dtype": self.dtype}

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, list[float]]]:
        for place, values in super().likelihoods(pairs):
            yield place, [self.fault(value) for value in values]


def same(value: float) -> float:
    return value


def rounded(value: float) -> float:
    """As bf16 keeps it: eight bits."""
    return float(torch.tensor(value).bfloat16())


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model)


def adapter_of(base: Path, folder: Path, *, size: float, rank: int = 2) -> Path:
    """An adapter whose B is drawn with standard deviation `size`."""
    wrapped = attach(load_model(base), LoRA(rank=rank, alpha=2 * rank), seed=0).model
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    wrapped.save_pretrained(str(folder))  # type: ignore[operator]
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter_of(tiny_model, tmp_path_factory.mktemp("adapters") / "r2", size=0.1)


def assert_fails(finding: Finding, *reasons: str) -> None:
    assert finding.outcome == "fail" and finding.guards
    for reason in reasons:
        assert reason in finding.measured


# ---------------------------------------------------------------- the reference


def test_probes_fit_the_context_and_have_shared_starts_and_options_of_one_token(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    for context in (32, 128, 4096):
        pairs = gates.probes(tokenizer, context)
        assert len(pairs) > 10 and len(set(pairs)) == len(pairs)
        assert all(prefix and option and len(prefix) + len(option) - 1 <= context for prefix, option in pairs)
        assert sum(len(option) == 1 for _, option in pairs) >= 3
        options = [option for _, option in pairs if len(option) > 4]
        assert any(a != b and a[:4] == b[:4] for a in options for b in options)


def test_the_reference_is_the_plain_log_softmax_of_the_merged_model(
    tiny_model: Path, adapter: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    pairs = gates.probes(tokenizer, 128)
    found = gates._reference(Weights(str(tiny_model), adapter), pairs)
    model = load_merged(tiny_model, adapter)
    for (prefix, option), values in zip(pairs, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prefix, *option]])).logits[0].double()
        expected = logits.log_softmax(-1)[len(prefix) - 1 : -1].gather(1, torch.tensor(option)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(values, dtype=torch.float64), expected, atol=1e-5)


def test_the_reference_follows_the_files_not_their_name(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    place, pairs = tmp_path / "r2", gates.probes(tokenizer, 128)
    adapter_of(tiny_model, place, size=0.1)
    weights = Weights(str(tiny_model), place)
    first = gates._reference(weights, pairs)
    assert gates._reference(weights, pairs) is first
    adapter_of(tiny_model, place, size=0.2)
    assert gates._reference(weights, pairs) != first


# ---------------------------------------------------------------- engines


def test_an_engine_with_the_right_answers_agrees(
    tiny_model: Path, adapter: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    for weights in (Weights(str(tiny_model)), Weights(str(tiny_model), adapter)):
        model = load_merged(tiny_model, adapter) if weights.tuned else load_model(tiny_model)
        finding = gates.engine_agrees(Faulty(model, tokenizer, same), weights, tokenizer)
        assert finding.outcome == "pass", finding.measured


@pytest.mark.parametrize(
    "fault", [lambda v: v + 0.01, lambda v: 1.001 * v, lambda v: float("nan")], ids=["shifted", "scaled", "nan"]
)
def test_an_engine_with_other_answers_does_not_agree(
    fault: Callable[[float], float], tiny_model: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    engine = Faulty(load_model(tiny_model), tokenizer, fault)
    finding = gates.engine_agrees(engine, Weights(str(tiny_model)), tokenizer)
    assert_fails(finding, "sums differ", "limit 0.001")


def test_an_engine_that_kept_its_old_output_layer_does_not_agree(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tuned = load_model(tiny_model)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=draw)
    tuned.save_pretrained(tmp_path / "full")
    weights = Weights(str(tiny_model), tmp_path / "full")
    assert gates.engine_agrees(Faulty(tuned, tokenizer, same), weights, tokenizer).outcome == "pass"
    stale = torch.nn.Linear(32, len(tokenizer), bias=False)
    stale.weight = torch.nn.Parameter(load_model(tiny_model).get_input_embeddings().weight.detach().clone())
    tuned.set_output_embeddings(stale)
    assert_fails(gates.engine_agrees(Faulty(tuned, tokenizer, same), weights, tokenizer), "full:", "sums differ")


def test_bf16_may_round_but_not_drift(tiny_model: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model, weights = load_model(tiny_model), Weights(str(tiny_model))
    finding = gates.engine_agrees(Faulty(model, tokenizer, rounded, "bfloat16"), weights, tokenizer)
    assert finding.outcome == "pass" and "tokens differ by 0.0" in finding.measured
    assert_fails(gates.engine_agrees(Faulty(model, tokenizer, rounded), weights, tokenizer), "sums differ")
    drifting = Faulty(model, tokenizer, lambda v: v + 0.1, "bfloat16")
    assert_fails(gates.engine_agrees(drifting, weights, tokenizer), "tokens differ by 0.100", "limit 0.05")


def test_the_canary_sees_a_used_adapter_and_an_ignored_one(
    tiny_model: Path, adapter: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    weights = Weights(str(tiny_model), adapter)
    used = TransformersGenerator(load_merged(tiny_model, adapter), tokenizer)
    finding = gates.adapter_answers(used, weights, tokenizer)
    assert finding.outcome == "pass" and "1.000 +- 0.000" in finding.measured
    ignored = TransformersGenerator(load_model(tiny_model), tokenizer)
    assert_fails(gates.adapter_answers(ignored, weights, tokenizer), "0.000 +- 0.000", "expected 1")


def test_the_canary_sees_an_adapter_ignored_within_the_rounding_of_bf16(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    # The change is 0.03 nats per token: an engine that ignores it still agrees to within the limit of bf16.
    weights = Weights(str(tiny_model), adapter_of(tiny_model, tmp_path / "small", size=0.004))
    ignored = Faulty(load_model(tiny_model), tokenizer, rounded, "bfloat16")
    assert gates.engine_agrees(ignored, weights, tokenizer).outcome == "pass"
    assert_fails(gates.adapter_answers(ignored, weights, tokenizer), "expected 1")
    used = Faulty(load_merged(tiny_model, tmp_path / "small"), tokenizer, rounded, "bfloat16")
    assert gates.adapter_answers(used, weights, tokenizer).outcome == "pass"


def test_the_canary_says_where_rounding_hides_the_change(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    weights = Weights(str(tiny_model), adapter_of(tiny_model, tmp_path / "tiny", size=1e-5))
    hidden = Faulty(load_merged(tiny_model, tmp_path / "tiny"), tokenizer, rounded, "bfloat16")
    finding = gates.adapter_answers(hidden, weights, tokenizer)
    assert finding.outcome == "warn" and "rounding" in finding.measured
    # In fp32 nothing can be hidden by rounding, so answers that do not fit are wrong.
    assert_fails(gates.adapter_answers(Faulty(hidden.model, tokenizer, rounded), weights, tokenizer))


def test_the_canary_fails_an_adapter_that_changes_nothing(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    place = adapter_of(tiny_model, tmp_path / "zero", size=0)
    engine = TransformersGenerator(load_merged(tiny_model, place), tokenizer)
    finding = gates.adapter_answers(engine, Weights(str(tiny_model), place), tokenizer)
    assert_fails(finding, "all 14 B of the adapter are zero")
    # With A zero instead, B says nothing, and the answers do.
    file = place / "adapter_model.safetensors"
    save_file({n: torch.full_like(t, float("lora_B" in n)) for n, t in load_file(file).items()}, file)
    finding = gates.adapter_answers(engine, Weights(str(tiny_model), place), tokenizer)
    assert_fails(finding, "as its base does, to the last digit")


def test_the_canary_fails_a_merged_model_that_is_the_base(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "merged")
    (tmp_path / "merged" / "config.json").write_text((tiny_model / "config.json").read_text() + "\n")
    engine = TransformersGenerator(load_model(tiny_model), tokenizer)
    weights = Weights(str(tiny_model), tmp_path / "merged")
    assert_fails(gates.adapter_answers(engine, weights, tokenizer), "merged model is the base model")


def test_merging_keeps_the_logits_and_a_sabotaged_merge_does_not(
    tiny_model: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gates.merge_parity(str(tiny_model), adapter).outcome == "pass"
    monkeypatch.setattr(gates, "load_merged", lambda base, checkpoint: load_merged(base, checkpoint).bfloat16().float())
    assert_fails(gates.merge_parity(str(tiny_model), adapter), "logits differ")
    monkeypatch.setattr(gates, "load_merged", lambda base, checkpoint: load_model(base))
    assert_fails(gates.merge_parity(str(tiny_model), adapter), "logits differ")
    assert gates.merge_parity(str(tiny_model), tiny_model).outcome == "skip"


def test_the_base_has_not_forgotten_itself(tiny_model: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    engine = TransformersGenerator(load_model(tiny_model), tokenizer)
    finding = gates.base_against_itself(engine)
    assert finding.outcome == "pass" and finding.measured.startswith("forgetting 0, 0 of")
    draw = np.random.default_rng(0)
    moody = Faulty(engine.model, tokenizer, lambda value: value * draw.uniform(0, 2), "bfloat16")
    finding = gates.base_against_itself(moody)
    assert_fails(finding, "item scores differ")
    assert ", 0 of" not in finding.measured
    unsteady = Faulty(engine.model, tokenizer, lambda value: value + draw.uniform(0, 0.004))
    assert_fails(gates.base_against_itself(unsteady), "log-probabilities differ by up to")


def test_end_of_text_is_trained_or_a_warning(tiny_model: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_model(tiny_model)
    head = torch.nn.Linear(32, len(tokenizer))
    torch.nn.init.zeros_(head.weight)
    model.set_output_embeddings(head)
    for bias, outcome in ((3.0, "pass"), (-3.0, "warn")):
        torch.nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.bias[tokenizer.eos_token_id] = bias
        finding = gates.eos_trained(TransformersGenerator(model, tokenizer), tokenizer)
        assert finding.outcome == outcome, finding.measured
    assert "run to their limit" in finding.measured


def test_a_model_known_never_to_end_is_warned_of(shared_data: Path) -> None:
    place = shared_data / "models" / "stories260K"
    tokenizer = load_tokenizer(place)
    assert gates.eos_trained(TransformersGenerator(load_model(place), tokenizer), tokenizer).outcome == "warn"


# ---------------------------------------------------------------- tokenizer and sandbox


def starting_with(changed: PreTrainedTokenizerBase, starts: int) -> PreTrainedTokenizerBase:
    """The tokenizer, made to put so many BOS before every text."""
    pieces = " ".join(["<s>"] * starts + ["$A"])
    changed.backend_tokenizer.post_processor = TemplateProcessing(  # type: ignore[attr-defined]
        single=pieces, pair=pieces + " $B", special_tokens=[("<s>", 0)]
    )
    return changed


def test_one_beginning_of_text_or_none_is_right_and_two_are_not(tiny_model: Path) -> None:
    none = gates.one_bos(starting_with(load_tokenizer(tiny_model), 0))
    assert none.outcome == "pass" and "none is added" in none.measured
    one = gates.one_bos(starting_with(load_tokenizer(tiny_model), 1))
    assert one.outcome == "pass" and "starts with [0, " in one.measured
    assert_fails(gates.one_bos(starting_with(load_tokenizer(tiny_model), 2)), "doubled", "starts with [0, 0, ")


def test_a_promised_beginning_of_text_must_be_there(tiny_model: Path) -> None:
    silent = load_tokenizer(tiny_model)
    silent.add_bos_token = True  # type: ignore[attr-defined]
    silent = starting_with(silent, 0)
    assert_fails(gates.one_bos(silent), "missing")


def test_a_tokenizer_without_beginning_of_text_is_right(tiny_model: Path) -> None:
    without = load_tokenizer(tiny_model)
    without.bos_token = None
    finding = gates.one_bos(without)
    assert finding.outcome == "pass" and "has no BOS" in finding.measured


def test_a_chat_template_must_not_add_a_second_beginning_of_text(tiny_model: Path) -> None:
    chatty = starting_with(load_tokenizer(tiny_model), 1)
    turn = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chatty.chat_template = "{{ bos_token }}" + turn
    assert gates.one_bos(chatty).outcome == "pass"
    chatty.chat_template = "{{ bos_token }}{{ bos_token }}" + turn
    assert_fails(gates.one_bos(chatty), "doubled", "a chat starts with [0, 0")


def test_all_canonical_solutions_pass_in_the_sandbox() -> None:
    finding = gates.canonical_solutions()
    assert finding.outcome == "pass" and finding.measured.startswith("164/164")


def test_a_solution_that_fails_in_the_sandbox_is_named() -> None:
    row = {"prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one"}
    problems = {
        "a/0": row | {"task_id": "a/0", "canonical_solution": "    return 1\n"},
        "a/1": row | {"task_id": "a/1", "canonical_solution": "    while True: pass\n"},
    }
    assert_fails(gates.canonical_solutions(problems, timeout=0.3), "1/2", "a/1: timeout")


# ---------------------------------------------------------------- what an evaluation asks


def test_an_evaluation_is_refused_where_its_own_gates_fail(
    tiny_model: Path, adapter: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    weights = Weights(str(tiny_model), adapter)
    right = gates.own(Faulty(load_merged(tiny_model, adapter), tokenizer, same), weights, tokenizer)
    assert [f.gate for f in right] == ["one BOS", "transformers = vLLM", "adapter canary"]
    gates.refuse(right)
    wrong = gates.own(Faulty(load_model(tiny_model), tokenizer, same), weights, tokenizer)
    with pytest.raises(
        RuntimeError, match=r"2 gate\(s\) failed: transformers = vLLM: .*; adapter canary: r2: "
    ) as caught:
        gates.refuse(wrong)
    assert "expected 1" in str(caught.value) and "guards against" in str(caught.value)


def test_the_reference_is_not_compared_with_itself(
    tiny_model: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersGenerator(load_model(tiny_model), tokenizer)
    monkeypatch.delattr(gates, "load_weights")  # no reference is computed
    assert [f.gate for f in gates.own(engine, Weights(str(tiny_model)), tokenizer)] == ["one BOS"]
