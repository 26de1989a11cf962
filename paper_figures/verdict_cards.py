"""The verdicts as HTML: a headline in words, and one card per claim with its intervals drawn to scale.

An interval is drawn on the line of its effect: zero is the thin upright, the pale band is the smallest effect that
would matter, the bar is the interval, the dot is the effect. Lines of a claim in the same unit share one scale. The
paper's direction is to the right, as `experiments/claims.py` writes every effect.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from paper_figures.rows import Row, select
from paper_figures.states import NOT_ASKED, SIGNS, STATES, state

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WIDTH, _HEIGHT = 240, 26


@dataclass(frozen=True)
class Beside:
    """What stands beside the rows of one page: verdicts of another collection, what a reader calls a setting, and a
    word that sets the anchors of a second scale apart."""

    reference: dict[tuple[str, str, str], Row]
    titles: dict[str, str]
    scale: str = ""


def overall(verdicts: list[Row]) -> list[Row]:
    """The one row per claim that sums up its parts, in the order of the claims."""
    return select(verdicts, part="overall")


def families(verdicts: list[Row]) -> list[str]:
    """The papers that the claims come from, in the order of the rows; a row that names none is of the paper."""
    return list(dict.fromkeys(family(row) for row in overall(verdicts)))


def family(row: Row) -> str:
    """Whose claim it is: "paper", "follow-up" or "side study"."""
    return str(row.get("family") or "paper")


def headline(verdicts: list[Row], *, where: str = "in this study") -> str:
    """How many claims held, in words, those of the follow-ups apart; `where` the others were not asked.

    >>> headline([{"part": "overall", "answer": "supported", "p_against": 0.9},
    ...           {"part": "overall", "answer": "undecided", "p_against": None}])
    'Of the two claims, one holds and one is not asked in this study.'
    """
    claims = overall(verdicts)
    if not claims:
        return "No claim has been asked yet."
    apart = {name: [row for row in claims if family(row) == name] for name in families(verdicts)}
    whose = {"paper": " of the paper", "follow-up": " of its follow-ups", "side study": " of the side studies"}
    whose = whose if len(apart) > 1 else {}
    said = [
        f"Of the {_word(len(own))} claim{'' if len(own) == 1 else 's'}{whose.get(name, '')}, {_held(own, where)}."
        for name, own in apart.items()
    ]
    return " ".join(said)


def _held(claims: list[Row], where: str) -> str:
    forms = {"supported": ("holds", "hold"), "not supported": ("does not hold", "do not hold")}
    forms |= {"undecided": ("is undecided", "are undecided")}
    forms |= {NOT_ASKED: (f"is not asked {where}", f"are not asked {where}")}
    counts = {name: sum(state(row) == name for row in claims) for name in STATES}
    parts = [f"{_word(n)} {forms[name][n > 1]}" for name, n in counts.items() if n]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def cards(verdicts: list[Row], reference: list[Row], titles: dict[str, str], *, scale: str = "") -> str:
    """All claims as cards.

    Args:
        reference: verdict rows of another collection to stand beside, or none.
        titles: what a reader calls a setting.
        scale: sets the anchors apart where several scales are on one page.
    """
    beside = Beside({_key(row): row for row in reference}, titles, scale)
    return "".join(_card(row, select(verdicts, claim=row["claim"]), beside) for row in overall(verdicts))


def chip(answer: str, *, prefix: str = "", sign_only: bool = False) -> str:
    """A state as a coloured word with a sign, so that colour is never the only carrier."""
    kind, sign = answer.replace(" ", "-"), SIGNS.get(answer, "")
    if sign_only:
        return f"<span class='chip {kind}' title='reference: {html.escape(answer)}'>ref. {sign}</span>"
    return f"<span class='chip {kind}'>{sign} {html.escape(prefix + answer)}</span>"


def speaks(other: Row) -> bool:
    """Whether the answer of other data to a claim says anything: a follow-up's claim that they cannot ask does not."""
    return family(other) == "paper" or state(other) != NOT_ASKED


def effect_line(row: Row, limits: tuple[float, float], other: Row | None = None) -> str:
    """The effect and its interval as a small drawing between `limits`; `other` is drawn thin, below."""
    low, high = limits
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(8 + (_WIDTH - 16) * (value - low) / span, 1)

    parts = []
    smallest = row.get("smallest_effect")
    if smallest:
        left, right = place(-abs(smallest)), place(abs(smallest))
        parts.append(f"<rect class='band' x='{left}' y='2' width='{right - left:.1f}' height='{_HEIGHT - 4}'/>")
    parts.append(f"<line class='zero' x1='{place(0)}' x2='{place(0)}' y1='1' y2='{_HEIGHT - 1}'/>")
    for drawn, kind, y in ((row, "own", 11 if other else 13), (other, "other", 20)):
        if drawn is not None and drawn.get("low") is not None:
            ends = f"x1='{place(drawn['low'])}' x2='{place(drawn['high'])}' y1='{y}' y2='{y}'"
            parts.append(
                f"<g class='{kind}'><line {ends}/><circle cx='{place(drawn['effect'])}' cy='{y}' r='4.5'/></g>"
            )
    words = _text(effect_words(row) + (f"; reference {effect_words(other)}" if other else ""))
    return (
        f"<svg class='effect {row['answer'].replace(' ', '-')}' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' "
        f"aria-label='{words}'><title>{words}</title>{''.join(parts)}</svg>"
    )


def effect_words(row: Row) -> str:
    """The effect with its interval and unit."""
    if row.get("effect") is None:
        return "no number, rows are missing"
    spread = "" if row.get("low") is None else f" [{_value(row['low'], '+')}, {_value(row['high'], '+')}]"
    return f"{_value(row['effect'], '+')}{spread} {row.get('unit') or ''}".strip()


def survival(row: Row) -> str:
    """Whether an answer stands when all comparisons of the page are asked at once."""
    return "stands after Holm's correction" if row["holm"] else "does not stand after Holm's correction"


def chance(p: float) -> str:
    """A p value for a reader.

    >>> [chance(p) for p in (0.0312, 0.00004)]
    ['= 0.031', '< 0.001']
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def anchor(row: Row, scale: str = "") -> str:
    """The name by which a row's place on the page is linked to.

    >>> anchor({"claim": "C1", "part": "overall", "setting": "all"})
    'claim-c1'
    """
    own = () if row["part"] == "overall" else (row["part"], row["setting"])
    words = "-".join(str(word) for word in ("claim", *([scale] if scale else []), row["claim"], *own)).lower()
    return "".join(letter if letter.isalnum() else "-" for letter in words)


def limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The range that holds zero, all intervals and the smallest effects, with a margin."""
    names = ("effect", "low", "high")
    values = [0.0, *(row[name] for row in rows for name in names if row.get(name) is not None)]
    for row in rows:
        smallest = abs(row.get("smallest_effect") or 0.0)
        values += [-smallest, smallest]
    margin = 0.04 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin


def _card(whole: Row, rows: list[Row], beside: Beside) -> str:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] != "overall":
            parts.setdefault(row["part"], []).append(row)
    every = [row for part in parts.values() for row in part]
    known = beside.reference
    seen = [*every, *(known[_key(row)] for row in every if _key(row) in known)]
    shared = {row["unit"]: limits([other for other in seen if other["unit"] == row["unit"]]) for row in every}
    lines = "".join(_part(part, shared, beside) for part in parts.values())
    return (
        f"<article class='card' id='{anchor(whole, beside.scale)}'><header><h3>"
        f"<span class='id'>{_text(whole['claim'])}</span> {_text(whole['statement'])}</h3>"
        f"<p>{chip(state(whole))}{_reference_chip(known.get(_key(whole)))}"
        f"<span class='quiet'>{family(whole)}: {_text(whole['source'])}</span></p></header>"
        f"{_words(whole)}{lines}</article>"
    )


def _part(part: list[Row], shared: dict[str, tuple[float, float]], beside: Beside) -> str:
    first = part[0]
    aside = "" if first.get("counts", True) else " <span class='quiet'>(beside the claim, does not count)</span>"
    rule = {
        "equal": "holds if the bar lies within the band",
        "not less": "holds if the bar lies right of the band's left edge",
    }
    hint = rule.get(first.get("rule", ""))
    note = f" <span class='quiet'>({hint})</span>" if hint else ""
    lines = "".join(_line(row, shared[row["unit"]], beside) for row in part)
    return f"<section class='part'><p>{_text(first['statement'])}{note}{aside}</p>{lines}</section>"


def _line(row: Row, limits: tuple[float, float], beside: Beside) -> str:
    other = beside.reference.get(_key(row))
    drawn = "" if row.get("effect") is None else effect_line(row, limits, other)
    where = beside.titles.get(row["setting"], row["setting"])
    second = ""
    if other is not None and speaks(other):
        second = f"<span class='reference'>{chip(state(other), sign_only=True)}</span>"
    return (
        f"<details class='line' id='{anchor(row, beside.scale)}'><summary><span class='where'>{_text(where)}</span>"
        f"<span class='answer'>{chip(state(row))}{second}</span>"
        f"<span class='drawn'>{drawn}</span><span class='number'>{_text(effect_words(row))}</span></summary>"
        f"{_words(row)}{_counts(row)}{_reference_words(other)}</details>"
    )


def _reference_words(other: Row | None) -> str:
    if other is None or not speaks(other):
        return ""
    seeds = f"{other['seeds']} seed{'s' if other['seeds'] != 1 else ''}"
    return f"<p class='quiet'>Reference collection, {seeds}: {state(other)}, {_text(effect_words(other))}.</p>"


def _words(row: Row) -> str:
    evidence = f"<p><b>Evidence.</b> {_text(row['evidence'])}</p>" if row.get("evidence") else ""
    change = f"<p><b>What would change it.</b> {_text(row['would_change'])}</p>" if row.get("would_change") else ""
    return f"<div class='words'>{evidence}{change}</div>" if evidence or change else ""


def _counts(row: Row) -> str:
    named = (("items", "n_items"), ("seeds", "seeds"), ("smallest effect that matters", "smallest_effect"))
    facts = [f"{name}: {_value(row[field])}" for name, field in named if row.get(field) is not None]
    if row.get("mde") is not None:
        facts.append(f"smallest effect this data could show: {_value(row['mde'])}")
    if row.get("p") is not None:
        facts.append(f"p {chance(row['p'])}")
    if row.get("holm") is not None and row["answer"] != "undecided":
        facts.append(survival(row))
    return f"<p class='quiet'>{_text(' · '.join(facts))}</p>" if facts else ""


def _reference_chip(other: Row | None) -> str:
    if other is None or not speaks(other):
        return ""
    seeds = f" ({other['seeds']} seeds)" if other.get("seeds") else ""
    return f"<span class='reference'>{chip(state(other), prefix='reference' + seeds + ': ')}</span>"


def _key(row: Row) -> tuple[str, str, str]:
    return (row["claim"], row["part"], row["setting"])


def _value(value: float, sign: str = "") -> str:
    exact = isinstance(value, int) or abs(value) >= 1000
    return (
        f"{value:{sign},.0f}" if exact else f"{value:{sign}.3f}" if abs(value) < 10 else f"{value:{sign}.1f}"
    ).replace("-", "−")


def _word(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
