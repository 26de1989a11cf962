"""The conventions against what lm-evaluation-harness's task files say, and the stop strings that are safe for all."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from replication.profiles import (
    CODE_STOPS,
    MATHS_STOPS,
    PROFILES,
    ChoiceRules,
    CodeRules,
    MathsRules,
    profile_of,
    safe_stops,
)

CODE = {name: p.code for name, p in PROFILES.items() if p.code}
MATHS = {name: p.maths for name, p in PROFILES.items() if p.maths}


def task_file(path: str) -> dict[str, Any]:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is a development dependency")
    import yaml

    text = (Path(lm_eval.__file__).parent / "tasks" / path).read_text().replace("!function ", "")
    return yaml.safe_load(text)


def test_each_convention_defines_what_it_publishes_and_nothing_else() -> None:
    defined = {name: (bool(p.code), bool(p.maths), sorted(p.choice)) for name, p in PROFILES.items()}
    choices = ["arc_challenge", "hellaswag", "mmlu", "winogrande"]
    assert defined == {
        "paper": (True, True, choices),
        "lm_eval": (True, True, choices),
        "bigcode": (True, False, []),
        "evalplus": (True, False, []),
    }
    for profile in PROFILES.values():
        rules: list[CodeRules | MathsRules | ChoiceRules | None] = [profile.code, profile.maths]
        assert all(r.source for r in [*rules, *profile.choice.values()] if r is not None)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"profile='lm-eval'; expected one of \['paper', 'lm_eval'"):
        profile_of("lm-eval")


def test_lm_eval_is_what_its_task_files_say() -> None:
    ours, humaneval = PROFILES["lm_eval"], task_file("humaneval/humaneval.yaml")
    assert ours.code is not None and ours.maths is not None
    assert set(ours.code.cut) == set(humaneval["generation_kwargs"]["until"])
    assert (ours.code.max_tokens, humaneval["doc_to_text"]) == (
        humaneval["generation_kwargs"]["max_gen_toks"],
        "{{prompt}}",
    )
    gsm8k = task_file("gsm8k/gsm8k.yaml")
    assert (set(ours.maths.cut), ours.maths.shots) == (set(gsm8k["generation_kwargs"]["until"]), gsm8k["num_fewshot"])
    assert ours.maths.metric == gsm8k["filter_list"][0]["name"].removesuffix("-match")
    for name, path in (
        ("hellaswag", "hellaswag/hellaswag.yaml"),
        ("arc_challenge", "arc/arc_easy.yaml"),
        ("winogrande", "winogrande/default.yaml"),
        ("mmlu", "mmlu/default/_default_template_yaml"),
    ):
        task = task_file(path)
        assert (ours.choice[name].shots, ours.choice[name].metric) == (
            task.get("num_fewshot", 0),
            task["metric_list"][0]["metric"],
        )


def test_the_paper_takes_its_code_from_bigcode_and_its_maths_from_lm_eval() -> None:
    paper = PROFILES["paper"]
    assert paper.code == PROFILES["bigcode"].code
    assert paper.maths == PROFILES["lm_eval"].maths
    assert {name: (r.shots, r.metric) for name, r in paper.choice.items()} == {
        "hellaswag": (10, "acc_token"),
        "arc_challenge": (25, "acc_token"),
        "winogrande": (5, "acc_token"),
        "mmlu": (5, "acc_token"),
    }


@pytest.mark.parametrize(("stops", "rules"), [(CODE_STOPS, CODE), (MATHS_STOPS, MATHS)], ids=["code", "maths"])
def test_wherever_a_generation_stops_every_convention_has_cut_it(stops: tuple[str, ...], rules: dict[str, Any]) -> None:
    assert stops
    for stop, rule in itertools.product(stops, rules.values()):
        assert any(cut in stop for cut in rule.cut), (stop, rule.source)


def test_no_generation_that_stops_has_lost_what_a_convention_would_keep() -> None:
    # The same text generated on for ever, and stopped as the suite stops it, must be cut alike by each convention.
    rng = random.Random(0)
    pieces = sorted({c for r in CODE.values() for c in r.cut}) + [
        "\n    x",
        "y = 1",
        "\n",
        "\nclassy",
        "\nprinter",
        "def ",
    ]
    stopped = 0
    for _ in range(3000):
        endless = "".join(rng.choices(pieces, k=12))
        ends = [endless.find(stop) + len(stop) for stop in CODE_STOPS if stop in endless]
        generated = endless[: min(ends)] if ends else endless
        stopped += bool(ends)
        for rule in CODE.values():
            assert first_cut(generated, rule.cut) == first_cut(endless, rule.cut)
    assert stopped > 1000


def first_cut(text: str, cuts: tuple[str, ...]) -> str:
    return text[: min((place for cut in cuts if (place := text.find(cut)) >= 0), default=len(text))]


def test_safe_stops_are_the_shortest_strings_that_hold_a_cut_of_each() -> None:
    assert safe_stops([("\nclass", "\n#", "\ndef"), ("\nclass ", "\ndef main(", "\ndef ", "\nfrom ")]) == (
        "\nclass ",
        "\ndef ",
    )
    assert safe_stops([("a",), ("b",)]) == ()
    assert CODE_STOPS == ("\nclass ", "\ndef ", "\nif __name__", "\nprint(")
