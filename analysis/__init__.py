"""Numbers from runs and results: every module reads tracked rows (or checkpoints) and writes rows for the figures.

    rows, grid        rows as plain dicts; which run stands in which cell, and its values on an axis
    curves, tradeoff  learning and forgetting over length, fronts, how the two axes of forgetting agree  (Figures 1-3)
    sweeps, optima    rates, alpha, modules, optimisers, decay; the best rate of each arm  (Figures 4, 7, S1-S3)
    capacity          bits of the data against bits of the weights
    diversity, texts  different strings among samples, at equal pass@1 too; pass_at_k  (Figures 5, S9)
    spectra           rank of the weight change beside noise and rounding  (Figures 6, S7)
    intruders         singular vectors unlike the base's; scaling: what they do; artefact: what the optimiser does
    throughput        speed and memory of LoRA  (Figure S10)
    orderings         which of the paper's orderings its own sample sizes decide
    verdicts          each claim: supported, not supported, undecided; summary: as the README shows them
    published, contamination, speed   the authors' checkpoints; training data among benchmark items; timings

`python -m analysis` runs all in this order.
"""
