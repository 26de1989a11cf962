"""One file of generations, scored as each published convention would have: how much of a score is convention.

    python -m replication.rescore runs/.../evals/step_000193/humaneval@1

Nothing is generated. What a model wrote is kept whole in the samples of a score (`evaluate.py`); each profile cuts it
at its own strings and executes it within its own limit (code), takes its own extraction (maths) or metric (choice).
What was asked cannot be changed afterwards, so each row says whether the profile would have asked the same
(`asked_alike`), and how many answers ended before the profile's own end of them was known, or go beyond the length it
allows (`undecided`): where that is 0 and `asked_alike` holds, the score is what the profile would have given.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replication.encoding import decode
from replication.evals import code, maths
from replication.evals.prompts import Answer
from replication.evals.result import ItemValues, Result, mean
from replication.profiles import PROFILES, ChoiceRules, CodeRules, MathsRules, profile_of
from replication.runs import read_json
from replication.specs import Choice, Code, Eval, Maths

Row = dict[str, Any]
Samples = list[dict[str, Any]]
Rules = CodeRules | MathsRules | ChoiceRules

CHOICE_METRICS = ("acc", "acc_norm", "acc_token")


def rules_of(spec: Eval, profile: str) -> Rules | None:
    """What a convention prescribes for a benchmark; None where it does not define it."""
    found = profile_of(profile)
    if isinstance(spec, Code):
        return found.code
    if isinstance(spec, Maths):
        return found.maths
    return found.choice.get(spec.name) if isinstance(spec, Choice) else None


def rescore(spec: Eval, samples: Samples, profile: str) -> Result:
    """The metrics that a convention gives the same generations; samples of the result are what it graded.

    Raises:
        ValueError: the convention does not define this benchmark, or the samples keep no raw text.
    """
    rules = rules_of(spec, profile)
    if isinstance(spec, Code) and isinstance(rules, CodeRules):
        return _code(replace(spec, cut=rules.cut, timeout=rules.timeout, profile=profile), samples)
    if isinstance(spec, Maths) and isinstance(rules, MathsRules):
        return _maths(replace(spec, cut=rules.cut, metric=rules.metric, profile=profile), samples)
    if isinstance(spec, Choice) and isinstance(rules, ChoiceRules):
        return _choice(samples)
    raise ValueError(f"profile {profile!r} does not define {spec.name!r} ({type(spec).__name__})")


def undecided(spec: Eval, samples: Samples, profile: str) -> int:
    """Answers whose score under a convention is not certain from what was generated.

    An answer is certain when the convention's end of it was generated (a cut string, end-of-text, or exactly its
    length) within the length that it allows. In a longer one, positions are counted in characters, of which a
    token of a program has one or more.
    """
    rules = rules_of(spec, profile)
    if not isinstance(rules, (CodeRules, MathsRules)):
        return 0
    count = 0
    for sample in samples:
        limit = rules.max_tokens
        if isinstance(rules, CodeRules) and rules.counts_prompt:
            limit -= sample["prompt_tokens"]
        count += sum(times for given, times in _answers(sample) if not _certain(given, rules.cut, limit))
    return count


def asked_alike(spec: Eval, profile: str) -> bool:
    """Whether a convention would have asked the same: the prompt's white space, the number of examples."""
    rules = rules_of(spec, profile)
    if isinstance(spec, Code) and isinstance(rules, CodeRules):
        return spec.prompt == rules.prompt and spec.template == Code.template
    shots = spec.shots.count if isinstance(spec, (Maths, Choice)) and spec.shots else 0
    plain = not isinstance(spec, Maths) or spec.template == Maths.template
    return isinstance(rules, (MathsRules, ChoiceRules)) and shots == rules.shots and plain


def read_score(folder: Path) -> tuple[Eval, Samples]:
    """Spec and samples of a score folder.

    Raises:
        FileNotFoundError: it is none.
        ValueError: a file is damaged, or its samples were made before the raw text was kept.
    """
    if not (folder / "scores.json").is_file():
        raise FileNotFoundError(f"{folder} is no score folder: it has no scores.json (<run>/evals/step_*/<eval>@<v>)")
    content = read_json(folder / "scores.json")
    if "spec" not in content:
        raise ValueError(f"{folder / 'scores.json'} names no spec; score it anew")
    spec = decode(content["spec"])
    try:
        text = gzip.decompress((folder / "samples.jsonl.gz").read_bytes()).decode()
        samples = [json.loads(line) for line in text.splitlines()]
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{folder / 'samples.jsonl.gz'} is damaged ({error}); score it anew") from None
    if isinstance(spec, (Code, Maths)) and not all(_keeps_text(sample) for sample in samples):
        raise ValueError(f"{folder} keeps no raw generations (it was scored before they were kept); score it anew")
    return spec, samples


def spread(folder: Path) -> list[Row]:
    """Every metric of a score folder under every profile that defines its benchmark.

    Returns:
        rows of benchmark, profile, metric, value, n (items), counts (whether this metric is the profile's score),
        answers, undecided, asked_alike.
    """
    return _spread(*read_score(folder))


def _spread(spec: Eval, samples: Samples) -> list[Row]:
    made = []
    for name in PROFILES:
        rules = rules_of(spec, name)
        if rules is None:
            continue
        shared = {
            "answers": sum(sample.get("samples", 1) for sample in samples),
            "undecided": undecided(spec, samples, name),
            "asked_alike": asked_alike(spec, name),
        }
        made += [
            {"benchmark": spec.name, "profile": name, "metric": m.name, "value": m.value, "n": m.n}
            | {"counts": m.name == _headline(rules)} | shared
            for m in rescore(spec, samples, name).metrics
        ]  # fmt: skip
    return made


def table(rows: Sequence[Row]) -> str:
    """Metrics by profile with the spread between profiles, and what limits the comparison, as text."""
    profiles = list(dict.fromkeys(row["profile"] for row in rows))
    lines = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        own = [row for row in rows if row["benchmark"] == benchmark]
        lines.append(_line(benchmark, [*profiles, "max - min"]))
        for metric in dict.fromkeys(row["metric"] for row in own):
            found = {row["profile"]: row for row in own if row["metric"] == metric}
            values = [row["value"] for row in found.values()]
            marked = [
                f"{found[p]['value']:.4f}{'*' if found[p]['counts'] else ' '}" if p in found else "- "
                for p in profiles
            ]  # fmt: skip
            lines.append(_line(f"  {metric}", [*marked, f"{max(values) - min(values):.4f} "]))
        first = {row["profile"]: row for row in own}
        lines.append(_line("  undecided", [_share(first.get(p)) for p in profiles]))
        lines.append(_line("  asked alike", [_yes(first.get(p)) for p in profiles]))
    return "\n".join([*lines, "* the metric that counts under that profile"])


def report(folders: Sequence[Path]) -> Iterator[str]:
    """Per score folder its name, then its table or one line why there is none; one that fails ends nothing early.

    Raises:
        ValueError: after the last folder, where some could not be scored.
    """
    failed = []
    for folder in folders:
        yield str(folder)
        try:
            spec, samples = read_score(folder)
            rows = _spread(spec, samples)
            yield table(rows) if rows else f"  no profile defines {spec.name!r} ({type(spec).__name__})"
        except (ValueError, RuntimeError, OSError) as error:
            failed.append(folder)
            yield f"  not scored: {' '.join(str(error).split())}"
    if failed:
        raise ValueError(f"{len(failed)} of {len(folders)} scores could not be scored again, the first is {failed[0]}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the spread of the score folders under one or more folders; ends with 2 where one cannot be scored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="+", help="a score folder, or a folder of some")
    tops = parser.parse_args(argv).folder
    places = [place.parent for top in tops for place in sorted(top.rglob("scores.json"))]
    try:
        if not places:
            raise FileNotFoundError(
                f"no scores.json below {tops[0]}; name a score folder, <run>/evals/step_*/<eval>@<v>"
            )
        for text in report(places):
            print(text, flush=True)
    except (ValueError, FileNotFoundError) as error:
        print(f"rescore: {error}", file=sys.stderr)
        sys.exit(2)


def _code(spec: Code, samples: Samples) -> Result:
    rows = code.proven_rows(spec)
    by_id = {str(row.get("task_id", i)): code.asked_as(spec, row) for i, row in enumerate(rows)}
    if missing := sorted({s["id"] for s in samples} - set(by_id)):
        raise ValueError(f"{spec.name}: item {missing[0]!r} of the samples is not in {spec.source.where!r} any more")
    answers = [[given for given, times in _answers(sample) for _ in range(times)] for sample in samples]
    return code.grade(spec, [by_id[s["id"]] for s in samples], answers)


def _maths(spec: Maths, samples: Samples) -> Result:
    answers = [given for sample in samples for given, _ in _answers(sample)]
    return maths.result(maths.grade(spec, [s["id"] for s in samples], [s["gold"] for s in samples], answers))


def _choice(samples: Samples) -> Result:
    """All three metrics were measured at the time; a profile only picks another one of them."""
    ids = tuple(sample["id"] for sample in samples)
    items = tuple(ItemValues(m, ids, tuple(float(s[m]) for s in samples)) for m in CHOICE_METRICS)
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


def _answers(sample: dict[str, Any]) -> list[tuple[Answer, int]]:
    """The generations of one item, each with how often it came."""
    kept = [sample["generated"] | {"count": 1}] if "generated" in sample else sample["answered"]
    return [(Answer(a["text"], a["stop"], a["finish"], a["tokens"]), a["count"]) for a in kept]


def _keeps_text(sample: dict[str, Any]) -> bool:
    listed = sample.get("answered")
    return "generated" in sample or (isinstance(listed, list) and all("stop" in given for given in listed))


def _certain(given: Answer, cuts: Sequence[str], limit: int) -> bool:
    place = given.ends_at(cuts)
    if given.tokens <= limit:
        return place is not None or given.finish == "eos" or (given.finish == "length" and given.tokens == limit)
    return place is not None and place < limit


def _headline(rules: Rules) -> str:
    return "pass@1" if isinstance(rules, CodeRules) else rules.metric


def _line(first: str, cells: Sequence[str]) -> str:
    return f"{first:<18}" + "".join(f"{cell:>12}" for cell in cells)


def _share(row: Row | None) -> str:
    return "- " if row is None else f"{row['undecided'] / row['answers']:.1%} "


def _yes(row: Row | None) -> str:
    return "- " if row is None else ("yes " if row["asked_alike"] else "no ")


if __name__ == "__main__":
    main()
