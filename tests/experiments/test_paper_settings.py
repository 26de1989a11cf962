"""The paper's hyperparameters against values typed a second time from its tables, not from the module."""

from __future__ import annotations

import pytest

from experiments import paper_settings as said
from experiments.paper import CPT_TOKENS_PER_BATCH, IFT_BATCHES_PER_EPOCH, Setting

B = 1e9
# Appendix A and README, row by row: data set, sequence, batch, micro-batch, decay; rates of full, r16, r64, r256.
TABLE: dict[Setting, tuple[str, int, int, int, float, tuple[float, float, float, float]]] = {
    "cpt_code": ("bigcode/starcoderdata/python", 4096, 192, 6, 1e-6, (1e-5, 1e-5, 1e-5, 1e-5)),
    "cpt_math": ("open-web-math/open-web-math", 4096, 192, 6, 0.0, (1e-5, 4e-5, 4e-5, 4e-5)),
    "ift_code": ("ise-uiuc/Magicoder-Evol-Instruct-110K", 4096, 192, 6, 0.0, (5e-5, 2e-4, 2e-4, 1e-4)),
    "ift_math": ("meta-math/MetaMathQA", 1024, 768, 24, 0.0, (1e-5, 1e-4, 1e-4, 5e-5)),
    "ift_mix": ("allenai/tulu-v2-sft-mixture", 4096, 192, 6, 0.0, (5e-6, 1e-4, 1e-4, 1e-4)),
}
LENGTHS: dict[Setting, tuple[float, ...]] = {
    "cpt_code": (0.25 * B, 0.5 * B, 1 * B, 2 * B, 4 * B, 8 * B, 16 * B, 20 * B),
    "cpt_math": (0.25 * B, 0.5 * B, 1 * B, 2 * B, 4 * B, 8 * B, 16 * B, 20 * B),
    "ift_code": (1, 2, 4, 8, 16),
    "ift_math": (1, 2, 4, 8, 16),
    "ift_mix": (2, 4, 6),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_setting_is_that_of_the_tables(name: Setting) -> None:
    hyper = said.HYPER[name]
    made = (
        hyper.dataset.value,
        hyper.seq_len.value,
        hyper.global_batch.value,
        hyper.micro_batch.value,
        hyper.weight_decay.value,
        tuple(hyper.rates[arm].value for arm in ("full", "r16", "r64", "r256")),
    )
    assert made == TABLE[name]
    assert hyper.durations.value == LENGTHS[name]


def test_what_all_settings_share_is_that_of_the_tables() -> None:
    assert said.BASE.value == "meta-llama/Llama-2-7b-hf"
    assert {k: v.value for k, v in said.TOKENIZER.items()} == {
        "cpt": "meta-llama/Llama-2-7b-hf",
        "ift": "meta-llama/Llama-2-7b-chat-hf",
    }
    assert (said.OPTIMIZER.value, said.BETAS.value, said.PRECISION.value) == (
        "decoupled_lionw",
        (0.9, 0.95),
        "amp_bf16",
    )
    assert (said.CLIPPING.value, said.GPUS.value, said.DROPOUT.value) == (1.0, 32, 0.05)
    assert (said.RANKS.value, said.ALPHA_PER_RANK.value) == ((16, 64, 256), 2)
    assert len(said.MODULES.value) == 7 and "gate_proj" in said.MODULES.value


def test_the_schedules_are_those_of_the_tables() -> None:
    cpt = (said.CPT_SCALE_BATCHES, said.CPT_WARMUP_BATCHES, said.CPT_COOLDOWN_BATCHES)
    assert tuple(fact.value for fact in cpt) == (1000, 1000, 5086)
    assert (said.CPT_ALPHA_F_DECAY.value, said.CPT_ALPHA_F_COOLDOWN.value) == (1, 0)
    assert (said.IFT_WARMUP_SHARE.value, said.IFT_ALPHA_F.value) == (0.1, 0.01)
    # The cooldown counted in batches is 20 % of the longest training.
    assert round(said.CPT_COOLDOWN_SHARE.value * round(20e9 / CPT_TOKENS_PER_BATCH)) == 5086


def test_the_data_have_the_sizes_of_the_tables() -> None:
    sizes = {name: (hyper.documents.value, hyper.tokens.value) for name, hyper in said.HYPER.items()}
    assert sizes["cpt_code"][1] == 20e9 and sizes["cpt_math"][1] == 14.7e9
    assert sizes["ift_code"] == (111_183, 72.97e6)
    assert sizes["ift_math"] == (395_000, 103e6)
    assert round(sizes["ift_mix"][0], -3) == 326_000


def test_the_ablations_are_those_of_the_figures() -> None:
    assert said.ALPHAS.value == (32, 256, 512)
    assert said.WEIGHT_DECAYS.value == (5e-5, 1e-4)
    assert said.ATTENTION_DROPOUTS.value == (0.05, 0.1)
    assert said.MODULE_EPOCHS.value == (1, 2, 4)
    assert (said.OLD_SWEEP_RANK.value, said.OLD_SWEEP_ALPHA.value, said.SWEEP_EPOCHS.value) == (64, 32, 2)
    assert said.SWEEP_RANGE.value == (1e-5, 5e-4)
    assert (min(said.SWEEP_RATES.value), max(said.SWEEP_RATES.value)) == said.SWEEP_RANGE.value


def test_packing_gives_the_batches_an_epoch_that_the_authors_count() -> None:
    for name, batches in IFT_BATCHES_PER_EPOCH.items():
        hyper = said.HYPER[name]
        assert hyper.per_sequence is not None
        sequences = hyper.documents.value / hyper.per_sequence.value
        assert sequences / hyper.global_batch.value == pytest.approx(batches, abs=0.05), name


def test_adapters_on_all_seven_linears_have_the_derived_number_of_parameters() -> None:
    hidden, wide, layers = 4096, 11_008, 32
    for rank, count in said.TRAINABLE.value.items():
        # q, k, v, o are square; gate, up and down have both widths.
        assert layers * rank * (4 * 2 * hidden + 3 * (hidden + wide)) == count


def test_what_is_not_printed_says_so() -> None:
    marked = {
        (name, field): fact.standing
        for name, hyper in said.HYPER.items()
        for field, fact in vars(hyper).items()
        if isinstance(fact, said.Fact) and fact.standing != "stated"
    }
    assert marked[("ift_code", "documents")] == "memory"
    assert marked[("ift_code", "per_sequence")] == "derived"
    for name in ("ift_code", "ift_math", "ift_mix"):
        assert marked[(name, "template")] == "inferred"
    assert marked[("ift_math", "per_sequence")] == marked[("ift_mix", "per_sequence")] == "inferred"
    shared = (said.SWEEP_RATES, said.CPT_ALPHAS, said.REGULARISED_RATE, said.V1_RATES, said.V1_MATH_TOKENS)
    assert {fact.standing for fact in shared} == {"inferred"}
    assert not [key for key in marked if key[1] in ("seq_len", "global_batch", "micro_batch", "weight_decay")]
