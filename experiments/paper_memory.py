"""The paper's memory tables as data: GB (1e9 bytes) per GPU for weights, gradients and optimiser, no activations.

Appendix H of arXiv 2405.09673 v2, Tables S14 to S16, as printed. They count a model of exactly 7, 70 or 405 billion
parameters, 1 % of them trained under LoRA; `replication.memory.paper_count` is their formula.
"""

from __future__ import annotations

# 7 billion parameters, by number of GPUs
S14 = """
             1      8      16      32      64
Adam         112    14     7       3.5     1.75
Adam+LoRA    15.12  1.89   .945    .4725   .236
Lion         84     10.5   5.25    2.625   1.3125
Lion+LoRA    14.84  1.855  .9275   .464    .232
"""

# 70 billion
S15 = """
             1      8      16      32      64
Adam         1120   140    70      35      17.5
Adam+LoRA    151.2  18.9   9.45    4.725   2.36
Lion         840    105    52.5    26.25   13.125
Lion+LoRA    148.4  18.55  9.275   4.64    2.32
"""

# 405 billion
S16 = """
             1      8        16      32       64      128     256
Adam         6480   810      405     202.5    101.25  50.625  25.3
Adam+LoRA    874.8  109.35   54.65   27.34    13.67   6.83    3.42
Lion         4860   607.5    303.75  151.875  75.94   37.97   18.98
Lion+LoRA    858.6  107.325  53.66   26.83    13.42   6.71    3.35
"""

# Parameters in billions, and the table that counts them.
TABLES = {7: ("S14", S14), 70: ("S15", S15), 405: ("S16", S16)}


def cells(text: str) -> dict[tuple[str, int], float]:
    """The printed value by row label and number of GPUs."""
    head, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (label, int(gpus)): float(value) for label, *values in rows for gpus, value in zip(head, values, strict=True)
    }
