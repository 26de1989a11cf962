"""Planted items are found whatever their white space, near misses are not, and the clean items are scored apart."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import contamination
from analysis.contamination import Item, flags, items_of, scores, search, summary
from replication.results import Items, write_rows

QUESTION = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends."
)
ANSWER = (
    "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs a day and makes 9 * 2 = $<<9*2=18>>18 every day at the market\n#### 18"
)
PROGRAM = {
    "task_id": "HumanEval/7",
    "prompt": 'def strange_sum(xs):\n    """Sum of what is odd."""\n',
    "canonical_solution": "    total = 0\n    for x in xs:\n        total += x % 2\n    return total\n",
    "entry_point": "strange_sum",
    "test": "def check(f):\n    assert f([1]) == 1\n",
}


@pytest.fixture
def gsm8k(tmp_path: Path) -> list[Item]:
    filler = [{"question": f"{w} " * 20, "answer": "#### 1"} for w in ("apples", "pears", "plums")]
    path = tmp_path / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [{"question": QUESTION, "answer": ANSWER}, *filler]))
    return items_of("gsm8k", str(path))


@pytest.fixture
def humaneval(tmp_path: Path) -> list[Item]:
    path = tmp_path / "humaneval.jsonl"
    path.write_text(json.dumps(PROGRAM) + "\n")
    return items_of("humaneval", str(path))


def found_ids(items: list[Item], benchmark: str, *documents: Any, share: float = 0.0) -> list[str]:
    rows = flags(benchmark, items, search(items, documents), share=share)
    return [row["id"] for row in rows if row["overlaps"]]


@pytest.mark.parametrize(
    "document",
    [
        {"text": f"Before. {QUESTION} After."},
        {"text": QUESTION.upper().replace(" ", "\n\t ")},
        {"text": QUESTION.replace("'", "").replace("Janets", "Janet s").replace(".", " ;")},
        {"prompt": "x", "response": ANSWER},
        {"response": ANSWER.replace("<<16-3-4=9>>", "").replace("<<9*2=18>>", "")},  # as derived sets write it
        {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": QUESTION}]},
    ],
    ids=["verbatim", "case and white space", "punctuation", "answer", "without calculator marks", "in a chat"],
)
def test_a_planted_question_is_found(document: dict[str, Any], gsm8k: list[Item]) -> None:
    assert found_ids(gsm8k, "gsm8k", {"text": "nothing"}, document) == ["0"]


@pytest.mark.parametrize(
    "document",
    [
        {"text": QUESTION.replace("eggs", "nuts").replace("breakfast", "lunch")},  # no thirteen words in a row
        {"text": " ".join(QUESTION.split()[:11])},  # "Janet's" is two
        {"prompt": " ".join(QUESTION.split()[:10]), "response": " ".join(QUESTION.split()[10:20])},  # two texts
        {"text": ANSWER.rsplit("####", 1)[1]},
    ],
    ids=["changed words", "twelve words", "cut in two", "the number alone"],
)
def test_a_near_miss_is_not(document: dict[str, Any], gsm8k: list[Item]) -> None:
    assert found_ids(gsm8k, "gsm8k", document) == []


def test_the_share_of_runs_is_the_part_that_was_found(gsm8k: list[Item]) -> None:
    words = "janet s ducks lay 16 eggs per day she eats three for breakfast every morning"
    found = search(gsm8k, [{"text": words}])
    row = flags("gsm8k", gsm8k, found)[0]
    question, answer = 21 - 12, 20 - 12  # runs of 13 among that many words
    assert (row["found"], row["runs"]) == (3, question + answer)
    assert row["share"] == pytest.approx(3 / 17)
    assert found_ids(gsm8k, "gsm8k", {"text": words}, share=0.2) == []
    total = summary(flags("gsm8k", gsm8k, found), found)
    assert (total["items"], total["overlapping"], total["documents"], total["half_of_runs"]) == (4, 1, 1, 0)


@pytest.mark.parametrize(
    ("text", "solved", "defined"),
    [
        (PROGRAM["prompt"] + PROGRAM["canonical_solution"], True, True),
        ("def  strange_sum( xs ):\n  total=0\n  for x in xs:  # all\n    total+=x%2\n\n  return total", True, True),
        ("def strange_sum(xs):\n    return sum(x % 2 for x in xs)\n", False, True),
        ("def other(xs):\n" + PROGRAM["canonical_solution"], False, False),
        (
            "def strange_sum(xs):\n    total = 0\n    for x in xs:\n        total += x % 3\n    return total",
            False,
            True,
        ),
        ("def strange_sum(xs):\n" + "#\n" * 4000 + PROGRAM["canonical_solution"], False, True),
        (PROGRAM["canonical_solution"] + "def strange_sum(xs): ...", False, True),
    ],
    ids=["verbatim", "reformatted", "another way", "another name", "one line differs", "far behind", "before"],
)
def test_a_solution_is_found_behind_its_definition(
    text: str, solved: bool, defined: bool, humaneval: list[Item]
) -> None:
    row = flags("humaneval", humaneval, search(humaneval, [{"text": text}]))[0]
    assert (row["id"], row["solution"], row["defined"], row["overlaps"]) == ("HumanEval/7", solved, defined, solved)


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q"}\n')
    with pytest.raises(ValueError, match="gsm8k: row 0 has no text in column 'answer'"):
        items_of("gsm8k", str(path))
    with pytest.raises(ValueError, match="benchmark 'mbpp'; expected one of"):
        items_of("mbpp")


# ---------------------------------------------------------------- clean-subset scores

KNOWN = {"gsm8k": [Item(str(i), frozenset(), f"How many are {i} apples?") for i in range(10)]}
FLAGS = [{"benchmark": "gsm8k", "id": str(i), "overlaps": i < 4} for i in range(10)]
VALUES = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def test_scores_are_split_into_clean_and_overlapping_items(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl.gz"
    shared = dict(
        scale="x", study="s", run="r", digest="d", seed=0, step=3, eval_version=1, ids=tuple(map(str, range(10)))
    )
    rows = [
        Items(**shared, eval="gsm8k", metric="strict", values=tuple(VALUES)),
        Items(**shared, eval="gsm8k", metric="run_on", values=tuple(VALUES)),
        Items(**shared, eval="hellaswag", metric="acc", values=tuple(VALUES)),
    ]
    write_rows(path, rows)
    found = {row["subset"]: row for row in scores(FLAGS, path, KNOWN)}
    assert {name: (row["items"], row["value"]) for name, row in found.items()} == {
        "all": (10, 0.5),
        "clean": (6, pytest.approx(1 / 3)),
        "overlapping": (4, 0.75),
        "overlapping - clean": (10, pytest.approx(0.75 - 1 / 3)),
    }
    assert (found["clean"]["low"], found["clean"]["high"]) == pytest.approx(
        (0.0968, 0.7000), abs=1e-4
    )  # Wilson, 2 of 6
    assert {row["matched"] for row in found.values()} == {"id"}
    assert {(row["run"], row["step"], row["eval"], row["metric"]) for row in found.values()} == {
        ("r", 3, "gsm8k", "strict")
    }


PROGRAMS = {"humaneval": [Item(f"HumanEval/{i}", frozenset(), f"\ndef f{i}(x):\n    pass\n") for i in range(4)]}
FLAGGED = [{"benchmark": "humaneval", "id": f"HumanEval/{i}", "overlaps": i == 0} for i in range(4)]


def score_folder(folder: Path, asked: dict[str, str | None], name: str = "humaneval_256") -> Path:
    """A score folder as evaluate.py leaves it; None: a sample that does not say what was asked."""
    items = [{"metric": "pass@1", "ids": list(asked), "values": [1.0] * len(asked)}]
    (folder / "scores.json").write_text(json.dumps({"spec": {"name": name}, "step": 0, "items": items}))
    samples = [{"id": i} | ({} if text is None else {"asked": text}) for i, text in asked.items()]
    text = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / "samples.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_a_score_folder_is_read_and_a_strange_item_refused(tmp_path: Path) -> None:
    # As conventions ask: stripped, and within a template.
    asked: dict[str, str | None] = {f"HumanEval/{i}": f"Write this.\n\ndef f{i}(x):\n\tpass" for i in range(4)}
    rows = scores(FLAGGED, score_folder(tmp_path, asked), PROGRAMS)
    assert {row["subset"]: row["items"] for row in rows} == {"all": 4, "clean": 3}  # one overlapping item is no subset
    assert {row["matched"] for row in rows} == {"id and question"}
    with pytest.raises(ValueError, match="item 'HumanEval/9' of 'humaneval_256' is not an item of 'humaneval'"):
        scores(FLAGGED, score_folder(tmp_path, {"HumanEval/0": "", "HumanEval/9": ""}), PROGRAMS)
    with pytest.raises(FileNotFoundError, match="has no scores.json"):
        scores(FLAGGED, tmp_path.parent, PROGRAMS)


def test_items_of_another_file_with_the_same_ids_are_refused(tmp_path: Path) -> None:
    asked: dict[str, str | None] = {f"HumanEval/{i}": f"\ndef f{i}(x):\n    pass\n" for i in range(4)}
    place = score_folder(tmp_path, asked | {"HumanEval/2": "def g(x):", "HumanEval/3": "def h(x):"})
    with pytest.raises(ValueError, match=r"item 'HumanEval/2' was another one: asked was 'def g\(x\):', the benchmark"):
        scores(FLAGGED, place, PROGRAMS)
    with pytest.raises(ValueError, match="do not say what was asked of item 'HumanEval/1'; score it anew"):
        scores(FLAGGED, score_folder(tmp_path, asked | {"HumanEval/1": None}), PROGRAMS)


def test_a_folder_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    place = score_folder(tmp_path, {"0": "Question: ..."}, "gsm8k")
    with pytest.raises(ValueError, match="holds no score of humaneval; it has gsm8k"):
        scores(FLAGGED, place, PROGRAMS)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.0] * 5, 0.0, 0.4345),
        ([1.0] * 5, 0.5655, 1.0),
        ([1.0] * 2 + [0.0] * 8, 0.0567, 0.5098),  # Newcombe 1998's way of writing 2 of 10
    ],
)
def test_a_share_has_wilsons_interval(values: list[float], low: float, high: float) -> None:
    assert contamination.interval(np.array(values)) == pytest.approx((low, high), abs=1e-4)


def test_other_values_have_the_normal_interval_with_four_imaginary_items() -> None:
    values, z2 = np.array([0.5, 0.25, 0.75, 0.5] * 20), 1.959964**2
    mean = (40 + z2 / 2) / (80 + z2)
    variance = (20 * (0.25 + 0.0625 + 0.5625 + 0.25) + z2 / 2) / (80 + z2) - mean**2
    half = math.sqrt(z2 * variance / (80 + z2))
    assert contamination.interval(values) == pytest.approx((mean - half, mean + half))
    low, high = contamination.interval(np.full(3, 0.02))  # equal values are no certainty
    assert low == 0.0 and 0.02 < high < 1.0


# ---------------------------------------------------------------- real data, cost


def test_gsm8ks_test_split_is_in_itself_and_hardly_in_its_train_split(shared_data: Path) -> None:
    folder = shared_data / "benchmarks" / "gsm8k"
    items = items_of("gsm8k", str(folder / "test.jsonl"))
    train, test = (
        [json.loads(line) for line in (folder / f"{s}.jsonl").read_text().splitlines()] for s in ("train", "test")
    )
    assert len(items) == 1319
    itself = flags("gsm8k", items, search(items, test))
    assert all(row["share"] == 1.0 for row in itself if row["runs"])
    found = search(items, train)
    total = summary(flags("gsm8k", items, found), found)
    assert (total["overlapping"], total["half_of_runs"], total["documents"]) == (6, 0, 7473)


def test_humaneval_is_in_itself(shared_data: Path) -> None:
    path = shared_data / "benchmarks" / "humaneval" / "HumanEval.jsonl.gz"
    items = items_of("humaneval", str(path))
    with gzip.open(path, "rt") as file:
        whole = [{"text": row["prompt"] + row["canonical_solution"]} for row in map(json.loads, file)]
    rows = flags("humaneval", items, search(items, whole))
    assert [sum(row[sign] for row in rows) for sign in ("overlaps", "solution", "defined")] == [164, 164, 164]


def test_documents_are_read_once_and_time_is_linear_in_their_length(gsm8k: list[Item]) -> None:
    def seconds(words: int) -> float:
        text = "janet s ducks lay 16 eggs " * (words // 6) + "\ndef strange_sum(xs):\n" * (words // 60)
        began = time.process_time()
        search([*gsm8k, contamination._item("humaneval", PROGRAM, 0)], iter([{"text": text}]))
        return time.process_time() - began

    seconds(1_000)
    # Ten times the text would take a hundred times as long if anything were quadratic.
    assert seconds(300_000) < 30 * max(seconds(30_000), 1e-3)


def test_the_command_prints_counts_and_writes_rows(tmp_path: Path, gsm8k: list[Item]) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"text": QUESTION}) + "\n")
    root = Path(__file__).resolve().parents[2]
    program = (
        "import sys; from analysis import command, contamination; assert 'torch' not in sys.modules; "
        "command.run(contamination.main)"
    )
    given = ["--train", train, "--benchmark", f"gsm8k={tmp_path / 'gsm8k.jsonl'}", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", program, *map(str, given)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header, line = done.stdout.splitlines()[:2]
    assert dict(zip(header.split(), line.split(), strict=True))["overlapping"] == "1"
    listed = [json.loads(text) for text in (tmp_path / "out" / "overlap_items.jsonl").read_text().splitlines()]
    assert [row["overlaps"] for row in listed] == [True, False, False, False]
