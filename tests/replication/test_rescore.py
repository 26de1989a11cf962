"""One set of generations under every convention: hand-written ones on which the conventions disagree."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication import rescore
from replication.config import Source, encode
from replication.evals import code, maths
from replication.evals.prompts import Answer
from replication.evals.result import Result
from replication.profiles import PROFILES
from replication.specs import Code, Eval, HeldOut, Maths
from replication.suite import benchmarks

ROW = {
    "task_id": "t/0",
    "prompt": "\ndef f(x):\n",
    "entry_point": "f",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
BODY = "\n    return x + 1"
# What each convention keeps of these decides whether they run.
SAME = Answer(BODY, "\ndef ", "stop", 9)
DECORATOR = Answer(BODY + "\n@nothing\n", "\ndef ", "stop", 9)  # only bigcode cuts before "\n@"
COMMENT = Answer(BODY + "\n# so\nx = y", "\nclass ", "stop", 9)  # evalplus goes on into a NameError
IMPORT = Answer(BODY + "\nimport nothing_of_that_name", "\nprint(", "stop", 9)  # only evalplus cuts before it
WRONG = Answer("\n    return x", "", "eos", 5)
CODE_ANSWERS = [SAME, DECORATOR, COMMENT, IMPORT, WRONG]
PASSED = {"paper": 3 / 5, "bigcode": 3 / 5, "lm_eval": 2 / 5, "evalplus": 2 / 5}


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    return path


def humaneval(rows_file: Path, **settings: Any) -> Code:
    spec = benchmarks("paper", {"humaneval": str(rows_file)})["humaneval"]
    assert isinstance(spec, Code)
    return Code(**{**vars(spec), "samples": 5, **settings})


def scored_code(spec: Code, answers: list[Answer]) -> Result:
    rows = [code.asked_as(spec, row) for row in code.proven_rows(spec)]
    result = code.grade(spec, rows, [answers])
    return Result(result.metrics, result.items, [s | {"asked": "", "prompt_tokens": 100} for s in result.samples])


def scored_maths(spec: Maths, answers: list[Answer]) -> Result:
    ids = [str(i) for i in range(len(answers))]
    return maths.result(maths.grade(spec, ids, ["7"] * len(answers), answers))


def write(folder: Path, spec: Eval, samples: list[dict[str, Any]]) -> Path:
    """A score folder as evaluate.py leaves it."""
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps({"spec": encode(spec)}))
    text = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / "samples.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_one_file_of_programs_scores_differently_under_each_convention(rows_file: Path, tmp_path: Path) -> None:
    spec = humaneval(rows_file)
    result = scored_code(spec, CODE_ANSWERS)
    folder = write(tmp_path / "humaneval@1", spec, result.samples)
    rows = rescore.spread(folder)
    assert {r["profile"]: r["value"] for r in rows if r["metric"] == "pass@1"} == PASSED
    assert {r["profile"] for r in rows if r["counts"]} == set(PROFILES)
    assert {r["profile"]: r["asked_alike"] for r in rows} == {
        "paper": True, "bigcode": True, "lm_eval": False, "evalplus": False,
    }  # fmt: skip
    assert {(r["undecided"], r["answers"]) for r in rows} == {(0, 5)}


def test_under_its_own_profile_a_score_is_what_it_was(rows_file: Path, tmp_path: Path) -> None:
    spec = humaneval(rows_file)
    result = scored_code(spec, CODE_ANSWERS)
    read, samples = rescore.read_score(write(tmp_path / "humaneval@1", spec, result.samples))
    again = rescore.rescore(read, samples, "paper")
    assert (read, again.metrics, again.items) == (spec, result.metrics, result.items)


def test_equal_generations_count_as_often_as_they_came(rows_file: Path, tmp_path: Path) -> None:
    spec = humaneval(rows_file)
    result = scored_code(spec, [SAME] * 3 + [DECORATOR] * 2)
    read, samples = rescore.read_score(write(tmp_path / "humaneval@1", spec, result.samples))
    assert [len(sample["answered"]) for sample in samples] == [2]
    assert rescore.rescore(read, samples, "lm_eval").value("pass@1") == 0.6
    assert rescore.rescore(read, samples, "bigcode").value("pass@1") == 1.0


def test_answers_that_no_convention_can_be_sure_of_are_counted(rows_file: Path) -> None:
    spec = humaneval(rows_file, samples=6)
    answers = [
        SAME,
        Answer(BODY + "\nif x", "\nclass", "stop", 20),  # a stop string of another study: evalplus has no end yet
        Answer("\n    y" * 99, "", "length", 1024),  # lm-eval would have stopped there too, the others earlier
        Answer("\n    y" * 99, "", "length", 400),  # the model's context was full
        Answer(BODY + "\n    # " + "x" * 900, "\ndef ", "stop", 900),  # longer than bigcode and evalplus allow
        Answer(BODY + "\n#" + "x" * 900, "\ndef ", "stop", 900),  # longer, but bigcode's cut came early
    ]
    samples = scored_code(spec, answers).samples
    found = {name: rescore.undecided(spec, samples, name) for name in PROFILES}
    assert found == {"paper": 3, "bigcode": 3, "lm_eval": 1, "evalplus": 5}


def test_a_cut_that_would_come_later_shows_in_maths(tmp_path: Path) -> None:
    spec = benchmarks("paper")["gsm8k"]
    assert isinstance(spec, Maths)
    answers = [
        Answer(" 3 + 4 = 7\n#### 7\n\n", "Question:", "stop", 20),
        Answer(" it is 7", "", "eos", 4),
        Answer(" #### 7 and 8", "", "length", 256),
        Answer(" #### 6", "", "length", 90),
    ]
    result = scored_maths(spec, answers)
    folder = write(tmp_path / "gsm8k@1", spec, result.samples)
    read, samples = rescore.read_score(folder)
    assert rescore.rescore(read, samples, "paper").items == result.items
    rows = rescore.spread(folder)
    values = {(r["profile"], r["metric"]): r["value"] for r in rows}
    assert {profile for profile, _ in values} == {"paper", "lm_eval"}
    assert (values["lm_eval", "strict"], values["lm_eval", "flexible"], values["lm_eval", "run_on"]) == (0.5, 0.5, 0.5)
    assert {r["undecided"] for r in rows} == {1}  # 256 tokens are lm-eval's own limit; 90 are nobody's
    assert all(r["asked_alike"] for r in rows)
    with pytest.raises(ValueError, match="profile 'bigcode' does not define 'gsm8k' .Maths."):
        rescore.rescore(read, samples, "bigcode")


def test_examples_or_another_wording_make_a_question_another_one() -> None:
    suite = benchmarks("paper")
    asked = {name: rescore.asked_alike(suite["hellaswag"], name) for name in ("paper", "lm_eval")}
    assert asked == {"paper": True, "lm_eval": False}
    bare = Maths("gsm8k", Source("x"))
    assert not rescore.asked_alike(bare, "paper")
    gsm8k = suite["gsm8k"]
    assert isinstance(gsm8k, Maths)
    assert not rescore.asked_alike(Maths(**{**vars(gsm8k), "template": "chat:{question}"}), "paper")


def test_a_choice_is_scored_by_the_metric_of_each_convention(tmp_path: Path) -> None:
    spec = benchmarks("paper")["winogrande"]
    graded = [(1, 0, 1), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    samples = [
        {"id": str(i), "acc": a, "acc_norm": n, "acc_token": t, "logprobs": [-1.0], "tokens": [1]}
        for i, (a, n, t) in enumerate(graded)
    ]
    rows = rescore.spread(write(tmp_path / "winogrande@1", spec, samples))
    assert {r["profile"]: (r["metric"], r["value"]) for r in rows if r["counts"]} == {
        "paper": ("acc_token", 0.75),
        "lm_eval": ("acc", 0.5),
    }


def test_scores_without_raw_text_say_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = {"id": "t/0", "answered": [{"text": BODY, "count": 5, "outcome": "passed", "why": ""}], "samples": 5}
    folder = write(tmp_path / "code@1", Code("code", Source("rows")), [old])
    with pytest.raises(SystemExit) as left:
        rescore.main([str(folder)])
    assert left.value.code == 2
    reason = f"{folder} keeps no raw generations (it was scored before they were kept); score it anew"
    told = capsys.readouterr()
    assert told.out == f"{folder}\n  not scored: {reason}\n"
    assert told.err == f"rescore: 1 of 1 scores could not be scored again, the first is {folder}\n"
    with pytest.raises(ValueError, match="keeps no raw generations"):
        rescore.read_score(write(tmp_path / "m@1", Maths("m", Source("rows")), [{"id": "0", "answered": "#### 7"}]))


def test_the_report_goes_on_after_a_folder_that_cannot_be_scored(rows_file: Path, tmp_path: Path) -> None:
    spec = humaneval(rows_file)
    samples = scored_code(spec, CODE_ANSWERS).samples
    held_out = write(tmp_path / "loss@1", HeldOut("loss", Source("rows"), seq_len=8), [{"id": "0", "nats": 1.0}])
    cut, gone, whole = (write(tmp_path / name, spec, samples) for name in ("cut@1", "gone@1", "humaneval@1"))
    (cut / "samples.jsonl.gz").write_bytes((cut / "samples.jsonl.gz").read_bytes()[:-20])
    (gone / "samples.jsonl.gz").unlink()
    told = []
    with pytest.raises(ValueError, match=f"3 of 5 scores could not be scored again, the first is {cut}"):
        for text in rescore.report([cut, gone, tmp_path / "none", held_out, whole]):
            told.append(text)
    assert told[::2] == [str(place) for place in (cut, gone, tmp_path / "none", held_out, whole)]
    reasons = told[1::2]
    assert "is damaged" in reasons[0] and "No such file" in reasons[1] and "no scores.json" in reasons[2]
    assert reasons[3] == "  no profile defines 'loss' (HeldOut)"
    assert not any("\n" in reason for reason in reasons[:4])
    assert reasons[4] == rescore.table(rescore.spread(whole))
    assert list(rescore.report([held_out])) == [str(held_out), reasons[3]]


def test_a_folder_without_scores_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rescore.main([str(tmp_path)])
    assert "name a score folder" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="has no scores.json"):
        rescore.read_score(tmp_path)


def test_the_table_shows_each_profile_and_the_spread_between_them(
    rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = humaneval(rows_file)
    write(tmp_path / "evals" / "humaneval@1", spec, scored_code(spec, CODE_ANSWERS).samples)
    rescore.main([str(tmp_path / "evals")])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["humaneval"] == ["paper", "lm_eval", "bigcode", "evalplus", "max", "-", "min"]
    assert lines["pass@1"] == ["0.6000*", "0.4000*", "0.6000*", "0.4000*", "0.2000"]
    assert lines["undecided"] == ["0.0%"] * 4
    assert lines["asked"] == ["alike", "yes", "no", "yes", "no"]


def test_canonical_solutions_are_right_under_every_convention(shared_data: Path) -> None:
    place = shared_data / "benchmarks" / "humaneval" / "HumanEval.jsonl.gz"
    spec = benchmarks("paper", {"humaneval": str(place)})["humaneval"]
    assert isinstance(spec, Code)
    spec = replace(spec, samples=1)
    rows = code.proven_rows(spec)
    # What follows a solution in the wild: white space, then whatever comes next in the file.
    answers = [[Answer("\n" + row["canonical_solution"].rstrip() + "\n\n", "\ndef ", "stop", 90)] for row in rows]
    samples = code.grade(spec, [code.asked_as(spec, row) for row in rows], answers).samples
    samples = [s | {"prompt_tokens": 200} for s in samples]
    for name in PROFILES:
        assert rescore.rescore(spec, samples, name).value("pass@1") == 1.0
        assert rescore.undecided(spec, samples, name) == 0
