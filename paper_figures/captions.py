"""What to see in each figure, and the value that nothing would have: the base, or the noise null.

A caption says where to look and what either outcome would mean; it never says which outcome happened, because the
rows may be anyone's. Numbers in it are taken from the rows.
"""

from __future__ import annotations

import html

from paper_figures import rows as table
from paper_figures.rows import Inputs
from paper_figures.tables import amount

# The paper's figures; the others are folded away on the page.
MAIN = ("fig1_learning", "fig2_forgetting", "fig3_tradeoff", "fig5_diversity", "fig6_spectra")

_TEXTS = {
    "fig1_learning": "Figure 1, learning. Score on the target after training of each length. "
    "LoRA learns less where its coloured lines stay below the line of full fine-tuning, and rank matters where "
    "violet (large) stands above orange (small).",
    "fig1_learning_loss": "Learning as held-out loss on the target's own text: lower is more learnt. The loss sees "
    "progress that a score with a threshold does not.",
    "fig2_forgetting": "Figure 2, forgetting. Mean score on what the base could do before. The further a line falls "
    "below the dashed base, the more was forgotten; LoRA forgets less where full fine-tuning falls furthest.",
    "fig2_forgetting_loss": "Forgetting as held-out loss on the base's own training text: higher is more forgotten.",
    "fig3_tradeoff": "Figure 3, the trade-off. Up is more learnt, right is less forgotten, larger marks are longer "
    "training, hollow marks the learning-rate sweep. A method wins only where its marks lie above and to the right of "
    "the others; the grey steps join the runs that no other run beats on both axes.",
    "fig3_tradeoff_loss": "The trade-off with forgetting measured as loss on the source text.",
    "fig5_diversity": "Figure 5, diversity. Different strings among the samples of one problem, correct and incorrect "
    "apart; large marks are the longest training. Fewer means that training narrowed what the model says. The paper "
    "reports base, then LoRA, then full fine-tuning.",
    "figS7_spectrum": "Figure S7, one matrix in full. Compare the change with the dashed noise: where they coincide, "
    "the spectrum of the change says nothing that noise would not.",
    "fig6_spectra": "Figure 6, spectra. How many singular directions hold 90 % of the squared change that full "
    "fine-tuning made. Dotted lines are the ranks LoRA was given. A line at the dashed height has the rank of pure "
    "noise, so height alone shows no structure: look at the distance below the dashes and at its drift with tokens. "
    "Hollow marks: the rounding of the stored weights is too large a part of the change to trust the rank.",
}


def caption(stem: str, inputs: Inputs) -> str:
    """The caption as HTML."""
    text = _TEXTS.get(stem) or _other(stem)
    return f"{html.escape(text)} {html.escape(_null(stem, inputs))}".strip()


def _other(stem: str) -> str:
    if stem.startswith("fig6_spectra_"):
        return f"Figure 6 for {stem.removeprefix('fig6_spectra_')}."
    if stem.startswith("fig2_forgetting_"):
        return f"Figure 2 for {stem.removeprefix('fig2_forgetting_')} alone."
    return ""


def _null(stem: str, inputs: Inputs) -> str:
    axes = {"fig1_learning": "learning", "fig2_forgetting": "forgetting", "fig1_learning_loss": "target_loss"}
    axes["fig2_forgetting_loss"] = "source_loss"
    if stem in axes:
        return _bases(axes[stem], inputs)
    if stem == "fig6_spectra":
        return _noise(inputs)
    return ""


def _bases(axis: str, inputs: Inputs) -> str:
    found = []
    for study, setting in inputs.scale.settings:
        rows = table.select(inputs.tables["curves"], study=study, axis=axis)
        base = next((row["base"] for row in rows if row.get("base") is not None), None)
        if base is not None:
            found.append(f"{setting.title} {amount(base)}")
    return f"The base: {', '.join(found)}." if found else ""


def _noise(inputs: Inputs) -> str:
    rows = table.select(inputs.tables["spectra"], arm="full", which="change")
    shapes = {(row["rows"], row["cols"]): row["rank90_noise"] for row in rows}
    found = [f"{a}×{b}: {amount(noise)}" for (a, b), noise in sorted(shapes.items())]
    return f"Rank of noise, by shape: {', '.join(found)}." if found else ""
