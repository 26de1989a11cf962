"""The paper's scores against values typed a second time from its tables."""

from __future__ import annotations

from collections import Counter

import pytest

from experiments import paper
from experiments.paper import REPORTED, reported


def test_every_table_is_complete() -> None:
    counts = Counter(row.source for row in REPORTED)
    # Four arms by eight lengths of continued pretraining, by five of instruction tuning.
    for table in ("S1", "S2", "S3", "S4"):
        assert counts[f"Table {table}"] == 4 * 8
    for table in ("S5", "S6", "S7", "S8"):
        assert counts[f"Table {table}"] == 4 * 5
    # The Tulu mix at three points of one run.
    for table in ("S10", "S11", "S12", "S13"):
        assert counts[f"Table {table}"] == 4 * 3
    assert len(REPORTED) == 4 * 32 + 4 * 20 + 4 * 12 + 9
    assert len({(r.setting, r.method, r.length, r.quantity) for r in REPORTED}) == len(REPORTED)


@pytest.mark.parametrize(
    ("setting", "method", "length", "quantity", "value", "source"),
    [
        ("cpt_code", "r16", 0.25e9, "humaneval", 0.143, "Table S1"),
        ("cpt_code", "r256", 20e9, "humaneval", 0.224, "Table S1"),
        ("cpt_code", "full", 4e9, "humaneval", 0.218, "Table S1"),
        ("cpt_code", "full", 20e9, "humaneval", 0.263, "Table S1"),
        ("cpt_code", "r16", 20e9, "forgetting", 0.635, "Table S2"),
        ("cpt_code", "full", 16e9, "forgetting", 0.551, "Table S2"),
        ("cpt_math", "r64", 1e9, "gsm8k", 0.150, "Table S3"),
        ("cpt_math", "full", 20e9, "gsm8k", 0.293, "Table S3"),
        ("cpt_math", "r256", 0.5e9, "forgetting", 0.638, "Table S4"),
        ("cpt_math", "full", 20e9, "forgetting", 0.618, "Table S4"),
        ("ift_code", "r64", 4, "humaneval", 0.417, "Table S5"),
        ("ift_code", "r256", 4, "humaneval", 0.498, "Table S5"),
        ("ift_code", "full", 8, "humaneval", 0.497, "Table S5"),
        ("ift_code", "r64", 16, "forgetting", 0.510, "Table S6"),
        ("ift_code", "full", 16, "forgetting", 0.414, "Table S6"),
        ("ift_math", "r16", 1, "gsm8k", 0.447, "Table S7"),
        ("ift_math", "full", 4, "gsm8k", 0.642, "Table S7"),
        ("ift_math", "r256", 16, "forgetting", 0.567, "Table S8"),
        ("ift_math", "full", 2, "forgetting", 0.599, "Table S8"),
        ("ift_mix", "r16", 4, "mt_bench", 5.997, "Table S10"),
        ("ift_mix", "full", 6, "mt_bench", 5.862, "Table S10"),
        ("ift_mix", "r256", 6, "mmlu", 0.492, "Table S11"),
        ("ift_mix", "r256", 4, "gsm8k", 0.335, "Table S12"),
        ("ift_mix", "full", 2, "forgetting", 0.660, "Table S13"),
        ("ift_mix", "base", 0, "mt_bench", 2.74, "Appendix C, taken there from the MT-bench paper"),
    ],
)
def test_a_score_is_found_with_its_table(
    setting: paper.Setting, method: str, length: float, quantity: paper.Quantity, value: float, source: str
) -> None:
    row = reported(setting, method, length, quantity)
    assert row is not None
    assert (row.value, row.source, row.unit) == (value, source, "tokens" if setting.startswith("cpt") else "epochs")


def test_the_tables_sum_to_what_another_copy_of_them_sums_to() -> None:
    # In thousandths, summed by another program from another copy of the tables: a digit mistyped changes a sum.
    sums = {"S1": 5553, "S2": 20078, "S3": 5681, "S4": 20271, "S5": 7528, "S6": 11793, "S7": 11782, "S8": 11949}
    sums |= {"S10": 69697, "S11": 6016, "S12": 3506, "S13": 7779}
    for table, total in sums.items():
        assert sum(round(row.value * 1000) for row in REPORTED if row.source == f"Table {table}") == total, table


def test_the_base_has_length_zero_and_says_where_it_was_read() -> None:
    assert {r.value for r in REPORTED if r.method == "base" and r.quantity == "forgetting"} == {0.671}
    row = reported("ift_math", "base", 0, "gsm8k")
    assert row is not None and row.value == 0.145 and "Figure 1" in row.source
    assert all(r.length == 0 for r in REPORTED if r.method == "base")
    assert all("pixels" in r.source for r in REPORTED if r.method == "base" and r.setting != "ift_mix")


def test_what_the_paper_does_not_report_is_none() -> None:
    assert reported("ift_code", "r2048", 4, "humaneval") is None
    assert reported("ift_code", "r256", 3, "humaneval") is None
    assert reported("cpt_math", "full", 20e9, "humaneval") is None


def test_a_mistyped_setting_or_quantity_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="setting='ift_maths'; the paper has cpt_code, cpt_math, ift_code, ift_math, ift_mix"
    ):
        reported("ift_maths", "full", 4, "gsm8k")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantity='pass@1'"):
        reported("ift_code", "full", 4, "pass@1")  # type: ignore[arg-type]


def test_lengths_are_those_of_the_tables() -> None:
    assert paper.lengths("cpt_math") == (0.25e9, 0.5e9, 1e9, 2e9, 4e9, 8e9, 16e9, 20e9)
    assert paper.lengths("ift_code") == (1, 2, 4, 8, 16)
    assert paper.lengths("ift_mix") == (2, 4, 6)


def test_batches_agree_with_the_numbers_of_batches_the_authors_give() -> None:
    # README: 386, 772, 1544 and 3088 batches for 2, 4, 8 and 16 epochs; a cooldown of 5086 batches is 20 % of 20B.
    assert [paper.IFT_BATCHES_PER_EPOCH["ift_code"] * n for n in (2, 4, 8, 16)] == [386, 772, 1544, 3088]
    assert round(0.2 * 20e9 / paper.CPT_TOKENS_PER_BATCH) == 5086
    assert set(paper.FORGETTING) < set(paper.ITEMS)


# ---------------------------------------------------------------- memory


def _footprint(parameters: float, optimizer: str, lora: bool, gpus: int) -> float:
    key = (parameters, optimizer, lora, gpus)
    (row,) = [r for r in paper.MEMORY if (r.parameters, r.optimizer, r.lora, r.gpus) == key]
    return row.gigabytes


@pytest.mark.parametrize(
    ("parameters", "optimizer", "lora", "gpus", "gigabytes"),
    [
        (7e9, "adam", False, 1, 112),
        (7e9, "adam", True, 1, 15.12),
        (7e9, "lion", False, 32, 2.625),
        (7e9, "lion", True, 64, 0.232),
        (70e9, "adam", True, 8, 18.9),
        (70e9, "lion", True, 1, 148.4),
        (405e9, "adam", False, 256, 25.3),
        (405e9, "lion", True, 32, 26.83),
    ],
)
def test_a_footprint_is_that_of_the_table(
    parameters: float, optimizer: str, lora: bool, gpus: int, gigabytes: float
) -> None:
    assert _footprint(parameters, optimizer, lora, gpus) == gigabytes


def test_every_footprint_follows_the_papers_rule_of_bytes_a_parameter() -> None:
    # Weights, gradients and state in fp32: 16 (Adam) or 12 (Lion). With LoRA 1 % of that, and a base in bf16.
    assert len(paper.MEMORY) == 4 * 5 + 4 * 5 + 4 * 7
    for table, total in {"S14": 278.9195, "S15": 2789.195, "S16": 16290.645}.items():
        assert sum(r.gigabytes for r in paper.MEMORY if r.source == f"Table {table}") == pytest.approx(total)
    for row in paper.MEMORY:
        per = {"adam": 16, "lion": 12}[row.optimizer]
        per_parameter = 2 + per / 100 if row.lora else per
        expected = row.parameters * per_parameter / row.gpus / 1e9
        # The table rounds to three or four digits.
        assert row.gigabytes == pytest.approx(expected, rel=0.005), row
