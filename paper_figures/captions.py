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
MAIN = (
    "fig1_learning", "fig2_forgetting", "fig3_tradeoff", "fig4_regularisation", "fig5_diversity", "fig6_spectra",
    "fig7_modules", "intruders", "rank_over_noise", "verdict_matrix",
)  # fmt: skip

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
    "apart; large marks are the longest training, small pale ones the shorter; panels differ in scale. Fewer means "
    "that training narrowed what the model says. The paper "
    "reports base, then LoRA, then full fine-tuning.",
    "figS7_spectrum": "Figure S7, one matrix in full. Compare the change with the dashed noise: where they coincide, "
    "the spectrum of the change says nothing that noise would not.",
    "fig6_spectra": "Figure 6, spectra. How many singular directions hold 90 % of the squared change that full "
    "fine-tuning made. Dotted lines are the ranks LoRA was given. A line at the dashed height has the rank of pure "
    "noise, so height alone shows no structure: look at the distance below the dashes and at its drift with tokens. "
    "Hollow marks: the rounding of the stored weights is too large a part of the change to trust the rank. One thin "
    "line per seed.",
    "fig4_regularisation": "Figure 4, regularisation. Weight decay and attention dropout in full fine-tuning against "
    "LoRA of the smallest and largest rank. They would replace LoRA where their lines reach its forgetting at no cost "
    "in learning; where they coincide with ink they do nothing.",
    "fig7_modules": "Figure 7, modules. One panel per rank, the linears that have an adapter by dashes. At one rank "
    "the variants train different numbers of weights, so a difference here may be size alone.",
    "fig7_modules_matched": "The modules at (nearly) equal numbers of trained weights, both rates that were tried. "
    "Overlapping intervals: the choice of linears does not matter beyond their number.",
    "figS1_rates": "Figure S1, learning rates. The score against the rate on seeds of their own; the ring is the rate "
    "chosen by the held-out target loss, so it may stand off the best score. A flat line is an arm that forgives "
    "its rate.",
    "figS1_rates_loss": "The held-out target loss by which rates are chosen: lower is better.",
    "figS1_rates_forgetting": "What is left of the base's abilities, by rate: a claim about forgetting at one rate is "
    "a claim about that rate.",
    "figS2_optimisers": "Figure S2, optimisers. LionW solid, AdamW dashed; their rates are not on one scale, so "
    "compare the tops of the lines.",
    "figS3_alpha": "Figure S3, alpha of the highest rank at every rate. Alpha and the rate act on one product, so "
    "compare each alpha at its own best rate.",
    "figS4_mix": "Figures S4 to S6, the instruction mix over the epochs of one run.",
    "figS9_pass_at_k": "Figure S9, pass@k at the longest training; bands are intervals. A model that says one thing "
    "gains nothing from more samples: its line is flat.",
    "figS10_throughput": "Figure S10, cost of a step. Adapters cost speed where their lines run below full "
    "fine-tuning's, and save memory where they run below it at the right. A speed is the fastest turn; its bar reaches "
    "to the slowest and is no interval.",
    "intruders": "Intruder dimensions among the leading directions, by threshold. Two nulls: directions at random "
    "(dashed) and the base plus noise of the size of the change (dotted, in the colour of the arm). Only the distance "
    "above the dotted line of the same colour is more than the size of the change. One line per seed, controls too.",
    "intruders_cosines": "Largest cosine of each leading direction to the base, as the share of directions below it; "
    "dashed and dotted are the same two nulls.",
    "intruders_forgetting": "Intruders of every run against what is left of the base's abilities; larger marks are "
    "longer training. They go together where marks of one colour fall to the right.",
    "intruder_scaling": "Change of each score when the top intruder of every matrix is scaled by the factor (solid), "
    "and when a neighbouring direction of the base is (dashed, hollow). Zero is the run as trained; intruders carry "
    "forgetting only where solid leaves dashed. Lines are the run of one seed with its interval; pale marks are other "
    "seeds.",
    "rank_over_noise": "Rank over noise. Figure 6 divided by the rank of pure noise of the same shape: at 1 the change "
    "has no structure that its rank could show. Within a module layers run from left to right. One line per seed.",
    "artefact": "The rank of full fine-tuning's change under three optimisers, against the target loss. Compare "
    "heights at one loss: if they differ, the rank is the optimiser's and not only the method's. One line per seed.",
    "capacity": "How far LoRA stays behind full fine-tuning, against the bits of the data over what the adapter can "
    "hold (2 bits a weight; pale bars reach to 1 bit). The rule: zero left of 1 (dotted), more at the right.",
    "side_whisper": "Side study: Whisper. Errors, the time of a step, the speed of decoding with the adapter merged "
    "and beside the weights, and what is trained and stored. LoRA costs decoding speed only where its unmerged mark "
    "falls below the line.",
    "side_whisper_fit": "How large a batch fits: peaks of memory at some batches and the line through them. An arm "
    "whose line is flatter takes larger batches; where lines begin is what weights and optimiser hold.",
    "side_distilbert": "Side study: DistilBERT on financial tweets. What the adapters add is the height of LoRA over "
    "the head alone; the dashed line answers the most frequent class to every tweet, the dotted one is the head as "
    "drawn.",
    "side_s2lora": "Side study: Sparsely Shared LoRA. Down and left is better: fewer errors, fewer trained weights. "
    "It generalises better if it stands lower among the others for the unheard speaker than for those trained on.",
    "side_s2lora_ranks": "Which matrices keep how much rank. The methods agree where their large marks go left and "
    "right together.",
    "side_throughput": "Side study: throughput. Supervised tokens a second over those of the reference, on the same "
    "documents at every step. A cross lacks the proof that the same weights trained to the same losses.",
    "verdict_matrix": "Every part of every claim by setting: answer and effect, positive in the direction claimed. "
    "A dash was not asked: its rows are missing. Grey text stands beside its claim and does not count; a dagger does "
    "not survive counting all questions (Holm).",
}


def caption(stem: str, inputs: Inputs) -> str:
    """The caption as HTML."""
    text = _TEXTS.get(stem) or _other(stem)
    return f"{html.escape(text)} {html.escape(_null(stem, inputs))}".strip()


def _other(stem: str) -> str:
    if stem.startswith("fig6_spectra_"):
        return f"Figure 6 for {stem.removeprefix('fig6_spectra_')}."
    if stem.startswith("verdict_matrix_"):
        return "The verdict matrix, continued."
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
