"""The verdict matrix: claims down, settings across, one sign per comparison.

A sign is a link to its line in the cards. Its description (effect, interval, seeds) is a title, which every browser
shows; the script of the page turns it into one that also opens on focus and touch. Colour is never the only carrier.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from paper_figures import states, verdict_cards
from paper_figures.rows import REPORTED, Inputs, Row, select
from paper_figures.states import SIGNS, state
from paper_figures.verdict_cards import anchor, chip, families, family, overall

_WHOSE = {
    "paper": "Claims of the paper",
    "follow-up": "Claims of the follow-ups",
    "side study": "Headlines of the side studies' originals",
}
# Of a one-sided comparison whose interval covers 95 % on two sides.
_BY_CHANCE = 0.025


def matrix(inputs: Inputs, titles: dict[str, str], others: Sequence[Inputs] = (), *, scale: str = "") -> str:
    """The matrix of one scale, with the overall answers of other scales beside its own.

    Args:
        titles: what a reader calls a setting.
        scale: sets the anchors apart where this is not the first matrix of the page.
    """
    verdicts = inputs.tables["verdicts"]
    if not overall(verdicts):
        return ""
    settings = [study for study, _ in inputs.scale.settings if select(verdicts, setting=study)]
    known = [each for each in others if each.tables.get("verdicts")]
    across = any(row["part"] != "overall" and row["setting"] not in settings for row in verdicts)
    heads = ["overall", *(_beside(each.scale.name) for each in known), *(titles.get(s, s) for s in settings)]
    heads += ["across settings"] if across else []
    head = "<th scope='col'>claim</th>" + "".join(f"<th scope='col'>{_text(name)}</th>" for name in heads)
    groups = families(verdicts)
    body = ""
    for name in groups:
        rows = [row for row in overall(verdicts) if family(row) == name]
        whose = _text(_WHOSE.get(name, name))
        title = f"<tr class='group'><th colspan='{len(heads) + 1}' scope='rowgroup'>{whose}</th></tr>"
        lines = "".join(_row(row, verdicts, settings, known, heads, titles, scale) for row in rows)
        body += f"<tbody>{title if len(groups) > 1 else ''}{lines}</tbody>"
    return f"<div class='scroll'><table class='matrix'><thead><tr>{head}</tr></thead>{body}</table></div>"


def _beside(scale: str) -> str:
    return "from the paper's numbers" if scale == REPORTED else f"overall, {scale}"


def legend(verdicts: list[Row]) -> str:
    """What the signs mean, and what it means that so many comparisons are made at once."""
    parts = [row for row in verdicts if row["part"] != "overall"]
    if not parts:
        return ""
    chips = " ".join(chip(name) for name in states.STATES)
    signs = (
        f"{chips} Each sign is one comparison in one setting; small signs stand beside the claim and do not count. "
        "Point at a sign for its effect, follow it for the evidence."
    )
    return f"<p class='quiet legend'>{signs}</p><p class='quiet'>{_text(_multiplicity(parts))}</p>"


def _multiplicity(parts: list[Row]) -> str:
    """The count of `python -m analysis` for a terminal, in its words."""
    asked = [row for row in parts if row["p_against"] is not None]
    groups = [[row for row in asked if row["answer"] == answer] for answer in ("supported", "not supported")]
    firm = [sum(row["holm"] for row in group) for group in groups]
    return (
        f"Of {len(parts)} parts {len(asked)} could be asked; were none true, chance would support "
        f"{_BY_CHANCE * len(asked):.1f}. {len(groups[0])} are supported, {len(groups[1])} refuted; Holm's correction "
        f"over all leaves {firm[0]} and {firm[1]}, and the others have a dashed sign."
    )


def _row(
    whole: Row, verdicts: list[Row], settings: list[str], known: Sequence[Inputs], heads: list[str],
    titles: dict[str, str], scale: str,
) -> str:  # fmt: skip
    parts = [row for row in select(verdicts, claim=whole["claim"]) if row["part"] != "overall"]
    cells = [chip(state(whole))]
    for other in known:
        same = next((row for row in overall(other.tables["verdicts"]) if row["claim"] == whole["claim"]), None)
        cells.append("" if same is None or not verdict_cards.speaks(same) else chip(state(same)))
    groups = [select(parts, setting=study) for study in settings]
    if len(heads) > len(cells) + len(groups):
        groups.append([row for row in parts if row["setting"] not in settings])
    cells += ["".join(_sign(row, titles, scale) for row in group) for group in groups]
    drawn = "".join(f"<td data-label='{_text(name)}'>{cell}</td>" for name, cell in zip(heads, cells, strict=True))
    claim = f"<a href='#{anchor(whole, scale)}'><b>{_text(whole['claim'])}</b> {_text(whole['statement'])}</a>"
    return f"<tr><th scope='row'>{claim}</th>{drawn}</tr>"


def _sign(row: Row, titles: dict[str, str], scale: str) -> str:
    kinds = ["sign", state(row).replace(" ", "-")]
    kinds += ["aside"] if not row.get("counts", True) else []
    kinds += ["unsure"] if row.get("holm") is False and row["answer"] != "undecided" else []
    sign = SIGNS[state(row)]
    return f"<a class='{' '.join(kinds)}' href='#{anchor(row, scale)}' title='{_text(_words(row, titles))}'>{sign}</a>"


def _words(row: Row, titles: dict[str, str]) -> str:
    where = titles.get(row["setting"], row["setting"])
    aside = "" if row.get("counts", True) else " (beside the claim)"
    lines = [f"{row['claim']}, {row['part']}{': ' + where if where else ''}{aside}", row["statement"]]
    lines.append(f"{state(row)}: {verdict_cards.effect_words(row)}")
    seeds, items = row.get("seeds"), row.get("n_items")
    counted = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((seeds, "seed"), (items, "item")) if n]
    chance = [] if row.get("p") is None else [f"p {verdict_cards.chance(row['p'])}"]
    standing = [verdict_cards.survival(row)] if row.get("holm") is not None and row["answer"] != "undecided" else []
    return "\n".join([*lines, ", ".join([*counted, *chance, *standing])]).strip()


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
