"""The benchmarks of the paper as frozen specs, asked and scored as a published convention prescribes.

    benchmarks("paper")["humaneval"]     50 samples a problem at temperature .2, pass@1
    benchmarks("paper")["humaneval_256"] 256 at .8, pass@k up to 256 (the paper's Figure S9)
    benchmarks("paper")["gsm8k"]         five examples, greedy
    ... hellaswag, arc_challenge, winogrande (their unweighted mean is the forgetting score), mmlu

Data come from the hub at pinned revisions, or in the same columns from a local file or folder. Whatever the profile,
a generation ends only where it has ended for every convention (`profiles.safe_stops`) and has the length that the most
generous of them allows, so one generation file can be scored again under each (`rescore.py`).

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from replication.config import Source
from replication.profiles import CODE_STOPS, MATHS_STOPS, PROFILES, Profile, profile_of
from replication.provenance import resolve
from replication.specs import Choice, Code, Eval, Form, Maths, Shots

# The choice benchmarks whose unweighted mean is the paper's forgetting score.
FORGETTING = ("hellaswag", "arc_challenge", "winogrande")

_GSM8K = Source("openai/gsm8k", "test", name="main", revision="740312add88f781978c0658806c59bc2815b9866")
_HELLASWAG = Source("Rowan/hellaswag", "validation", revision="218ec52e09a7e7462a5400043bb9a69a41d06b76")
_ARC = Source("allenai/ai2_arc", "test", name="ARC-Challenge", revision="210d026faf9955653af8916fad021475a3f00453")
_WINOGRANDE = Source(
    "allenai/winogrande", "validation", name="winogrande_xl", revision="01e74176c63542e6b0bcb004dcdea22d94fb67b5"
)
_MMLU = Source("cais/mmlu", "test", name="all", revision="c30699e8356da336a370243923dbaf21066bb9fe")
_HUB: dict[str, Source] = {
    "humaneval": Source("openai/openai_humaneval", "test", revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"),
    "gsm8k": _GSM8K,
    "hellaswag": _HELLASWAG,
    "arc_challenge": _ARC,
    "winogrande": _WINOGRANDE,
    "mmlu": _MMLU,
}  # fmt: skip
# Where the worked examples come from, as in lm-eval's task files.
_POOLS: dict[str, Source] = {
    "gsm8k": replace(_GSM8K, split="train"),
    "hellaswag": replace(_HELLASWAG, split="train"),
    "arc_challenge": replace(_ARC, split="train"),
    "winogrande": replace(_WINOGRANDE, split="train"),
    "mmlu": replace(_MMLU, split="dev"),
}
_FORMS: dict[str, Form] = {
    "hellaswag": "hellaswag",
    "arc_challenge": "arc",
    "winogrande": "winogrande",
    "mmlu": "letters",
}


def benchmarks(profile: str = "paper", where: Mapping[str, str] | None = None) -> dict[str, Eval]:
    """The benchmarks that a convention defines, by name.

    Args:
        profile: one of `profiles.PROFILES`.
        where: by benchmark, a local file, a folder in the hub's layout or another hub id instead of ours; by
            `<benchmark>_shots` that of its pool of examples, which a file needs.

    Raises:
        ValueError: an unknown profile, or a name in `where` that is no benchmark's.
    """
    rules, places = profile_of(profile), dict(where or {})
    known = sorted({*_HUB, "humaneval_256", *(f"{name}_shots" for name in _POOLS)})
    if unknown := sorted(set(places) - set(known)):
        raise ValueError(f"where names {unknown[0]!r}; expected some of {known}")
    made: dict[str, Eval] = {}
    if rules.code:
        made |= {"humaneval": _code(rules, "humaneval", places), "humaneval_256": _code_256(rules, places)}
    if rules.maths:
        made["gsm8k"] = _maths(rules, places)
    return made | {name: _choice(rules, name, places) for name in rules.choice}


def _code(profile: Profile, name: str, places: Mapping[str, str]) -> Code:
    rules = profile.code
    assert rules is not None
    return Code(
        name,
        _placed(_HUB["humaneval"], places.get(name, places.get("humaneval"))),
        samples=50,
        temperature=0.2,
        top_p=0.95,
        max_tokens=max(p.code.max_tokens for p in PROFILES.values() if p.code),
        stop=CODE_STOPS,
        timeout=rules.timeout,
        prompt=rules.prompt,
        cut=rules.cut,
        too_long=rules.too_long,
        profile=profile.name,
    )


def _code_256(profile: Profile, places: Mapping[str, str]) -> Code:
    # top-p is not stated for this study; .95 is the other's.
    return replace(_code(profile, "humaneval_256", places), samples=256, temperature=0.8)


def _maths(profile: Profile, places: Mapping[str, str]) -> Maths:
    rules = profile.maths
    assert rules is not None
    return Maths(
        "gsm8k",
        _placed(_HUB["gsm8k"], places.get("gsm8k")),
        max_tokens=max(p.maths.max_tokens for p in PROFILES.values() if p.maths),
        stop=MATHS_STOPS,
        shots=_shots("gsm8k", rules.shots, places),
        cut=rules.cut,
        metric=rules.metric,
        too_long=rules.too_long,
        profile=profile.name,
    )


def _choice(profile: Profile, name: str, places: Mapping[str, str]) -> Choice:
    rules = profile.choice[name]
    return Choice(
        name,
        _placed(_HUB[name], places.get(name)),
        form=_FORMS[name],
        shots=_shots(name, rules.shots, places),
        metric=rules.metric,
        too_long=rules.too_long,
        profile=profile.name,
    )


def _shots(name: str, count: int, places: Mapping[str, str]) -> Shots | None:
    """MMLU's examples are the first rows of its development split, as in lm-eval; the others' are drawn."""
    if not count:
        return None
    place = places.get(f"{name}_shots")
    if place is None and not _is_file(places.get(name)):
        # A folder in the hub's layout, or another hub id, has the pool as one of its splits.
        place = places.get(name)
    return Shots(_placed(_POOLS[name], place), count, seed=None if name == "mmlu" else 1234)


def _placed(hub: Source, place: str | None) -> Source:
    """The same data from elsewhere; our revision means nothing there."""
    if place is None:
        return hub
    local = resolve(place)
    # A folder names its configurations in the README that came with it; one without has a single one.
    named = local is None or (local / "README.md").is_file()
    return replace(hub, where=place, revision=None, name=hub.name if named else None)


def _is_file(place: str | None) -> bool:
    local: Path | None = resolve(place) if place else None
    return local is not None and local.is_file()
