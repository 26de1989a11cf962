"""The paper's scales: what the runs made from its settings come to, planned without network or data."""

from __future__ import annotations

import pytest

from experiments import paper, published, studies
from experiments import paper_settings as said
from experiments.arms import arms
from experiments.paper_scale import PAPER, PAPER_V1
from replication.config import CPT, IFT, Cosine, Full, LionW, LoRA, Run, Trapezoid

PER_STEP = 192 * 4096


def _runs(study: str) -> list[Run]:
    return studies.runs(study, PAPER, seeds=1)


def test_the_trunk_of_twenty_billion_tokens_and_its_branches_have_the_papers_steps() -> None:
    full = [run for run in _runs("cpt_code") if isinstance(run.method, Full)]
    (trunk,) = [run for run in full if run.branch is None]
    branches = [run for run in full if run.branch]
    assert [run.budget.amount / PER_STEP for run in branches] == [318, 636, 1272, 2543, 5086, 10173, 20345, 25431]
    starts = [run.branch.at_tokens // PER_STEP for run in branches if run.branch]
    assert starts == [254, 509, 1018, 2034, 4069, 8138, 16276, 20345]
    assert 25431 - starts[-1] == said.CPT_COOLDOWN_BATCHES.value
    assert trunk.budget.amount == 20345 * PER_STEP and set(trunk.ladder) == {start * PER_STEP for start in starts}
    # Two lengths lie inside the warm-up of 1,000 batches.
    assert sum(run.budget.amount / PER_STEP < 1000 for run in branches) == 2


@pytest.mark.parametrize("study", ["cpt_code", "cpt_math", "ift_code", "ift_math", "ift_mix"])
def test_every_run_has_the_optimiser_clipping_precision_and_batch_of_the_tables(study: str) -> None:
    for run in _runs(study):
        assert isinstance(run.optim, LionW) and run.optim.betas == (0.9, 0.95)
        assert run.optim.weight_decay == (1e-6 if study == "cpt_code" else 0.0)
        assert (run.grad_clip, run.precision, run.model) == (1.0, "bf16", "meta-llama/Llama-2-7b-hf")
        chat = run.tokenizer == "meta-llama/Llama-2-7b-chat-hf"
        assert chat == study.startswith("ift")
        # 32 GPUs with the paper's micro-batch hold the whole batch.
        assert run.global_batch == said.GPUS.value * run.micro_batch
        assert isinstance(run.schedule, Trapezoid if study.startswith("cpt") else Cosine)


def test_adapters_are_on_all_linears_with_twice_the_rank_and_the_papers_dropout() -> None:
    lora = [method for method in arms(PAPER).values() if isinstance(method, LoRA)]
    assert [(m.rank, m.alpha, m.targets, m.dropout) for m in lora] == [
        (16, 32, "all", 0.05),
        (64, 128, "all", 0.05),
        (256, 512, "all", 0.05),
    ]


def test_each_arm_runs_at_the_papers_rate() -> None:
    rates = {(run.study, run.method.label()): run.optim.lr for run in _runs("study")}
    assert rates["cpt_code", "lora-r256-all"] == rates["cpt_code", "full"] == 1e-5
    assert rates["cpt_math", "lora-r16-all"] == 4e-5
    assert rates["ift_code", "lora-r64-all"] == 2e-4 and rates["ift_code", "lora-r256-all"] == 1e-4
    assert rates["ift_math", "lora-r256-all"] == 5e-5
    assert rates["ift_mix", "full"] == 5e-6


def test_instruction_lengths_are_runs_of_their_own_except_in_the_mix() -> None:
    assert len(_runs("ift_code")) == len(_runs("ift_math")) == 4 * 5
    mix = _runs("ift_mix")
    assert [(run.budget.amount, run.ladder) for run in mix] == [(6, (2, 4, 6))] * 4
    assert all("mmlu" in run.evals and "gsm8k" in run.evals for run in mix)
    assert not any("mmlu" in run.evals for run in _runs("ift_code"))


def test_magicoder_has_193_batches_an_epoch_and_the_readmes_numbers_of_steps() -> None:
    run = _runs("ift_code")[0]
    assert isinstance(run.task, IFT) and run.task.per_sequence is not None
    sequences = -(-111_183 // run.task.per_sequence)
    assert [run.steps(n, sequences_per_epoch=sequences) for n in (1, 2, 4, 8, 16)] == [193, 386, 772, 1544, 3088]


def test_lengths_agree_with_the_tables_of_scores() -> None:
    for name, setting in PAPER.settings:
        assert setting.lengths == paper.lengths(name)  # type: ignore[arg-type]
        for length in setting.lengths:
            for arm, _ in setting.rates:
                assert paper.reported(name, arm, length, "forgetting")  # type: ignore[arg-type]


def test_only_code_is_cut_to_twenty_billion_tokens() -> None:
    sources = {name: setting.task.source for name, setting in PAPER.settings}
    assert {name: source.max_tokens for name, source in sources.items() if source.max_tokens} == {"cpt_code": 20e9}
    assert sources["cpt_code"].columns == (("text", "content"),)
    assert {setting.task.__class__ for _, setting in PAPER.settings} == {CPT, IFT}


def test_the_reference_runs_use_no_fast_kernels_and_shard_only_what_is_trained() -> None:
    for run in _runs("study"):
        assert (run.speed.kernels, run.speed.attention, run.speed.recompute) == ("reference", "sdpa", True)
        assert run.zero_stage == (3 if isinstance(run.method, Full) else 2)


def test_the_base_of_the_published_checkpoints_is_the_scales_base() -> None:
    assert published.BASE == PAPER.model == PAPER_V1.model


def test_the_sweep_covers_the_recommended_range_for_two_epochs_of_both_instruction_sets() -> None:
    runs = _runs("learning_rates")
    assert {run.study for run in runs} == {"ift_code.learning_rates", "ift_math.learning_rates"}
    assert {run.budget.amount for run in runs} == {2} and {run.seed for run in runs} == {100}
    for label in ("full", "lora-r16-all", "lora-r64-all", "lora-r256-all"):
        rates = [run.optim.lr for run in runs if run.method.label() == label and run.study.startswith("ift_code")]
        assert (min(rates), max(rates)) == (1e-5, 5e-4)


# ---------------------------------------------------------------- the first version


def test_the_first_version_had_six_adapters_without_gate_and_a_fixed_alpha_for_code() -> None:
    settings = dict(PAPER_V1.settings)
    assert list(settings) == ["cpt_code", "cpt_math", "ift_code", "ift_math"]
    for name, setting in settings.items():
        lora = [method for method in arms(PAPER_V1, setting).values() if isinstance(method, LoRA)]
        assert {(m.targets, m.rank) for m in lora} == {
            (targets, rank) for targets in ("attention", "mlp-nogate", "all-nogate") for rank in (16, 256)
        }
        at_high_rank = {m.alpha for m in lora if m.rank == 256}
        assert at_high_rank == ({32} if name.endswith("code") else {512})
        assert {m.alpha for m in lora if m.rank == 16} == {32}
        assert len(arms(PAPER_V1, setting)) == 7


def test_the_first_version_trained_maths_to_8_6_billion_tokens_and_code_to_20() -> None:
    settings = dict(PAPER_V1.settings)
    assert max(settings["cpt_math"].lengths) == 8.6e9 and max(settings["cpt_code"].lengths) == 20e9
    names = [run.name() for run in studies.runs("study", PAPER_V1, seeds=1)]
    assert len(set(names)) == len(names) == 7 * (9 + 7 + 5 + 5)
    assert "cpt_code/lora-r256-mlp-nogate-a32-lr1e-5-tok19.9998b-s0" in names


def test_a_scale_without_a_sweep_lists_none() -> None:
    assert "learning_rates" in studies.names(PAPER) and "learning_rates" not in studies.names(PAPER_V1)
    with pytest.raises(ValueError, match="no study 'learning_rates' at scale 'paper_v1'"):
        studies.runs("learning_rates", PAPER_V1, seeds=1)
