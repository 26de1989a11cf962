"""Numbers from runs and results: every module reads tracked rows (or checkpoints) and writes rows for the figures.

    rows.py       analysis rows: plain dicts, one JSON object a line
    grid.py       which run stands in which cell (setting, arm, length, seed), and its values on an axis
    curves.py     learning and forgetting over training length              (Figures 1, 2)
    tradeoff.py   learning against forgetting, and the gap between fronts   (Figure 3)
    diversity.py  different strings among samples                           (Figure 5)
    spectra.py    rank of the weight change beside noise and rounding       (Figures 6, S7)
    verdicts.py   each claim of the paper: supported, not supported, undecided

`python -m analysis` runs all in this order.
"""
