"""The benchmarks as values, and read from local data in the hub's columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from replication.config import Source, encode
from replication.data.sources import documents
from replication.encoding import decode
from replication.profiles import CODE_STOPS, PROFILES
from replication.specs import Choice, Code, HeldOut, Maths
from replication.suite import FORGETTING, benchmarks

CHOICES = ("hellaswag", "arc_challenge", "winogrande", "mmlu")


def test_a_profile_has_the_benchmarks_it_defines() -> None:
    code = ["humaneval", "humaneval_256"]
    assert {name: list(benchmarks(name)) for name in PROFILES} == {
        "paper": [*code, "gsm8k", *CHOICES],
        "lm_eval": [*code, "gsm8k", *CHOICES],
        "bigcode": code,
        "evalplus": code,
    }
    assert set(FORGETTING) < set(CHOICES)
    with pytest.raises(ValueError, match="profile='foundry'"):
        benchmarks("foundry")


def test_the_papers_benchmarks() -> None:
    suite = benchmarks()
    humaneval, many, gsm8k = suite["humaneval"], suite["humaneval_256"], suite["gsm8k"]
    assert isinstance(humaneval, Code) and isinstance(many, Code) and isinstance(gsm8k, Maths)
    assert (humaneval.samples, humaneval.temperature, humaneval.top_p, humaneval.timeout) == (50, 0.2, 0.95, 3.0)
    assert (many.samples, many.temperature, many.source) == (256, 0.8, humaneval.source)
    assert (humaneval.prompt, humaneval.profile, humaneval.stop) == ("stripped", "paper", CODE_STOPS)
    assert gsm8k.shots is not None
    assert (gsm8k.shots.count, gsm8k.shots.source.split, gsm8k.shots.seed, gsm8k.metric) == (5, "train", 1234, "strict")
    choices = [suite[name] for name in FORGETTING]
    shots = [c.shots.count for c in choices if isinstance(c, Choice) and c.shots]
    assert (shots, {c.metric for c in choices if isinstance(c, Choice)}) == ([10, 25, 5], {"acc_token"})
    mmlu = suite["mmlu"]
    assert isinstance(mmlu, Choice) and mmlu.shots is not None
    assert (mmlu.shots.source.split, mmlu.shots.seed) == ("dev", None)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_source_is_pinned_and_every_spec_is_frozen_data(profile: str) -> None:
    for name, spec in benchmarks(profile).items():
        assert not isinstance(spec, HeldOut)
        assert (spec.name, spec.profile) == (name, profile)
        pools = [spec.shots.source] if isinstance(spec, (Maths, Choice)) and spec.shots else []
        for source in (spec.source, *pools):
            assert source.revision is not None and len(source.revision) == 40
        assert decode(encode(spec)) == spec
        assert hash(spec) == hash(decode(encode(spec)))


def test_generations_of_all_profiles_are_asked_for_alike_but_for_the_prompt() -> None:
    specs = [spec for name in PROFILES if isinstance(spec := benchmarks(name)["humaneval"], Code)]
    assert len({(s.stop, s.max_tokens, s.samples, s.temperature) for s in specs}) == 1
    assert {s.profile: s.max_tokens for s in specs}["paper"] >= max(
        p.code.max_tokens for p in PROFILES.values() if p.code
    )


def test_a_place_of_ones_own_replaces_the_hub(tmp_path: Path) -> None:
    file, folder = tmp_path / "rows.jsonl", tmp_path / "folder"
    file.write_text("{}\n")
    folder.mkdir()
    suite = benchmarks(
        "paper", {"humaneval": str(file), "gsm8k": str(folder), "hellaswag": str(file), "mmlu": "me/mmlu"}
    )
    humaneval, gsm8k, hellaswag, mmlu = (suite[n] for n in ("humaneval", "gsm8k", "hellaswag", "mmlu"))
    assert suite["humaneval_256"].source == humaneval.source == Source(str(file), "test")
    assert isinstance(gsm8k, Maths) and isinstance(hellaswag, Choice) and isinstance(mmlu, Choice)
    assert gsm8k.source == Source(str(folder), "test")
    assert gsm8k.shots is not None and gsm8k.shots.source == Source(str(folder), "train")  # the folder has its splits
    assert hellaswag.shots is not None and hellaswag.shots.source.where == "Rowan/hellaswag"  # a file has not
    assert mmlu.shots is not None
    assert (mmlu.source, mmlu.shots.source) == (Source("me/mmlu", "test", "all"), Source("me/mmlu", "dev", "all"))
    assert suite["winogrande"] == benchmarks()["winogrande"]


def test_a_folder_that_names_its_configurations_is_asked_for_ours(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nconfigs: []\n---\n")
    assert benchmarks("paper", {"gsm8k": str(tmp_path)})["gsm8k"].source.name == "main"


def test_a_place_for_no_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match="where names 'human_eval'; expected some of"):
        benchmarks("paper", {"human_eval": "x"})
    with pytest.raises(ValueError, match="where names 'humaneval_shots'"):
        benchmarks("paper", {"humaneval_shots": "x"})


def test_local_data_in_the_hubs_columns_are_read_whole(shared_data: Path) -> None:
    data = shared_data / "benchmarks"
    suite = benchmarks(
        "paper",
        {
            "humaneval": str(data / "humaneval" / "HumanEval.jsonl.gz"),
            "gsm8k": str(data / "gsm8k"),
            "hellaswag": str(data / "hellaswag" / "hub_schema"),
            "arc_challenge": str(data / "arc_challenge" / "hub_schema"),
            "winogrande": str(data / "winogrande" / "hub_schema" / "validation.jsonl"),
        },
    )
    counts = {n: sum(1 for _ in documents(s.source)) for n, s in suite.items() if n not in ("mmlu", "humaneval_256")}
    assert counts == {"humaneval": 164, "gsm8k": 1319, "hellaswag": 10042, "arc_challenge": 1172, "winogrande": 1267}
    gsm8k, arc = suite["gsm8k"], suite["arc_challenge"]
    assert isinstance(gsm8k, Maths) and gsm8k.shots is not None and isinstance(arc, Choice) and arc.shots is not None
    assert sum(1 for _ in documents(gsm8k.shots.source)) == 7473
    assert sum(1 for _ in documents(arc.shots.source)) == 1119
