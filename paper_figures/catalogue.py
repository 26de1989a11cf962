"""Every figure of the study under its name, and what is missing of it."""

from __future__ import annotations

from types import ModuleType

from paper_figures import (
    artefact,
    capacity,
    fig1_learning,
    fig2_forgetting,
    fig3_tradeoff,
    fig4_regularisation,
    fig5_diversity,
    fig6_spectra,
    fig7_modules,
    figS1_rates,
    figS2_optimisers,
    figS3_alpha,
    figS4_mix,
    figS7_spectrum,
    figS9_pass_at_k,
    figS10_throughput,
    intruder_scaling,
    intruders,
    rank_over_noise,
    side_distilbert,
    side_s2lora,
    side_throughput,
    side_whisper,
    verdict_matrix,
)
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs

# In the order of the paper, then ours.
FIGURES: tuple[ModuleType, ...] = (
    fig1_learning, fig2_forgetting, fig3_tradeoff, fig4_regularisation, fig5_diversity, fig6_spectra, fig7_modules,
    figS1_rates, figS2_optimisers, figS3_alpha, figS4_mix, figS7_spectrum, figS9_pass_at_k, figS10_throughput,
    intruders, intruder_scaling, rank_over_noise, artefact, capacity, verdict_matrix,
    side_whisper, side_distilbert, side_s2lora, side_throughput,
)  # fmt: skip


def find(name: str) -> ModuleType:
    """The figure of that name: its own, or the part before the underscore, as in `fig1`.

    Raises:
        ValueError: no such figure.
    """
    for module in FIGURES:
        if name in (module.STEM, module.STEM.partition("_")[0]) or name.startswith(f"{module.STEM}_"):
            return module
    known = ", ".join(module.STEM for module in FIGURES)
    raise ValueError(f"no figure {name!r}; there are {known}, tables, report")


def pictures(inputs: Inputs, modules: tuple[ModuleType, ...] = FIGURES) -> dict[str, Picture]:
    """Every picture that the rows allow, by stem, none of them drawn yet."""
    return {stem: picture for module in modules for stem, picture in module.pictures(inputs).items()}


def gaps(inputs: Inputs, modules: tuple[ModuleType, ...] = FIGURES) -> list[str]:
    """Cells of the grid without rows, in words, among the figures whose tables are there."""
    wanted = table.expected(inputs.scale)
    return [
        f"{module.STEM}: {gap}"
        for module in modules
        if all(inputs.tables[name] and name in wanted for name in module.NEEDS)
        for gap in module.missing(inputs)
    ]


def waiting(inputs: Inputs, modules: tuple[ModuleType, ...] = FIGURES) -> list[str]:
    """One line for each table that is absent or empty: what cannot be drawn, and the command that makes the table."""
    found = []
    for name in table.expected(inputs.scale):
        users = [module.STEM for module in modules if name in module.NEEDS]
        if users and not inputs.tables[name]:
            command = table.command(name, inputs.asked)
            found.append(f"{name}.jsonl has no rows, so no {', '.join(users)}; made by `{command}`")
    return found
