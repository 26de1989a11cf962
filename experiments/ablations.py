"""The paper's ablations as studies: what one choice does, with everything else as in the setting that it varies.

A study is called after its setting and what it varies, as in `ift_code.alpha`; a scale names those it affords
(`Scale.ablations`). What the setting itself trains is not trained again: its table holds those points, such as the
linears "all" beside "attention" and "mlp".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments import cpt, ift, paper_settings, sweeps
from experiments.arms import arms, base_run
from replication import shapes
from replication.config import SGD, AdamW, LionW, LoRA, Run, Targets, number
from replication.scale import Scale, Setting

SHORT = paper_settings.MODULE_EPOCHS.value


def names(scale: Scale) -> dict[str, str]:
    """The ablations of a scale and the question each asks; none of a setting that the scale does not have."""
    titles = {name: setting.title for name, setting in scale.settings}
    asked = [name for name in scale.ablations if sweeps.setting_of(name) in titles]
    return {name: f"{titles[sweeps.setting_of(name)]}: {GRIDS[_kind(name)][1]}" for name in asked}


def runs(name: str, scale: Scale, seed: int) -> list[Run]:
    """All runs of an ablation that the setting itself does not train."""
    setting = dict(scale.settings)[sweeps.setting_of(name)]
    kinds = {"cpt": cpt.runs, "ift": ift.runs}
    trained = set(kinds[setting.regime](scale, name, setting, seed))
    return [run for run in GRIDS[_kind(name)][0](scale, name, setting, seed) if run not in trained]


def _kind(name: str) -> str:
    kind = name.partition(".")[2]
    if kind not in GRIDS:
        raise ValueError(f"no ablation {name!r}; a setting's name is followed by one of .{', .'.join(GRIDS)}")
    return kind


def _alpha(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """The highest rank under three alphas at every rate of its sweep; one length. Under two at its own rate in CPT.

    Beside 2 r: the rank itself, and the first version's alpha, an eighth of the paper's highest rank.
    """
    rank = max(scale.ranks)
    arm = f"r{rank}"
    length = _middle(setting)
    swept = sweeps.rates(scale, sweeps.setting_of(name), setting, arm) or (setting.rate(arm),)
    alphas = (scale.fixed_alpha, rank, 2 * rank) if setting.regime == "ift" else (scale.fixed_alpha, 2 * rank)
    return [
        replace(_at(base_run(scale, name, setting, arm, seed, lr=lr), length), method=_lora(scale, rank, alpha=alpha))
        for alpha in alphas
        # A smaller alpha is made up for by a higher rate: where the scale names more rates for it, those too.
        for lr in (*swept, *sweeps.rates(scale, sweeps.setting_of(name), setting, f"{arm}-a{number(alpha)}"))
    ]


def _optimiser(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """LionW and AdamW at every rate, full and with the middle rank as the first version had it."""
    return [run for lion in _first_sweep(scale, name, setting, seed) for run in (lion, _with_adamw(lion))]


def _first_sweep(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """LionW at every rate, full and with the middle rank under a fixed alpha, without the gate."""
    rank = sorted(scale.ranks)[len(scale.ranks) // 2]
    first = LoRA(rank, alpha=scale.fixed_alpha, targets="all-nogate", dropout=scale.dropout)
    length = _middle(setting) if setting.sweep_length is None else setting.sweep_length
    return [
        replace(_at(base_run(scale, name, setting, arm, seed, lr=lr), length), method=method)
        for arm, method in (("full", arms(scale, setting)["full"]), (f"r{rank}", first))
        for lr in sweeps.rates(scale, sweeps.setting_of(name), setting, arm)
    ]


def _with_adamw(run: Run) -> Run:
    return replace(run, optim=AdamW(run.optim.lr, weight_decay=run.optim.weight_decay))


def _modules(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """Adapters on attention or on the MLP only, at every rank, for the shorter lengths."""
    parts: tuple[Targets, ...] = ("attention", "mlp")
    return [
        replace(_at(base_run(scale, name, setting, f"r{rank}", seed), length), method=_lora(scale, rank, targets=part))
        for part in parts
        for rank in scale.ranks
        for length in _short(setting)
    ]


def _regularisation(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """Full fine-tuning with weight decay or attention dropout, at every length."""
    found = []
    for length in setting.lengths:
        plain = _at(base_run(scale, name, setting, "full", seed), length)
        for decay in scale.weight_decays:
            found.append(replace(plain, optim=LionW(plain.optim.lr, weight_decay=decay)))
        for share in paper_settings.ATTENTION_DROPOUTS.value:
            found.append(replace(plain, attention_dropout=share))
    return found


def _matched(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """Attention at the highest rank, MLP and all linears at the rank with the nearest number of weights; longest.

    Each at the highest rank's rate and at twice that: the better by held-out target loss stands for the arm.
    """
    shape, top = shapes.of_model(scale.model), max(scale.ranks)
    weights = shapes.trainable(shape, _lora(scale, top, targets="attention"))
    parts: tuple[Targets, ...] = ("attention", "mlp", "all")
    ranks = {part: round(weights / shapes.trainable(shape, _lora(scale, 1, targets=part))) for part in parts}
    arm = f"r{top}"
    return [
        replace(
            _at(base_run(scale, name, setting, arm, seed, lr=times * setting.rate(arm)), max(setting.lengths)),
            method=_lora(scale, ranks[part], targets=part),
        )
        for part in parts
        for times in (1, 2)
    ]


def _artefact(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """Full fine-tuning by AdamW and by SGD at every length of a CPT setting, each at a rate of its own.

    The rates stand in the sweep as those of the arms "full-adamw" and "full-sgd".
    """
    found = []
    for label, kind in (("full-adamw", AdamW), ("full-sgd", SGD)):
        for lr in sweeps.rates(scale, sweeps.setting_of(name), setting, label):
            plain = base_run(scale, name, setting, "full", seed, lr=lr)
            found += cpt.of_arm(replace(plain, optim=kind(lr)), setting)
    return found


def _precision(scale: Scale, name: str, setting: Setting, seed: int) -> list[Run]:
    """Full fine-tuning without fp32 masters, for the shorter lengths: not the paper's, it shows why they matter."""
    plain = base_run(scale, name, setting, "full", seed)
    return [replace(_at(plain, length), precision="pure_bf16") for length in _short(setting)]


GRIDS: dict[str, tuple[Callable[[Scale, str, Setting, int], list[Run]], str]] = {
    "alpha": (_alpha, "does the highest rank need alpha = 2 r? (Figure S3)"),
    "optimiser": (_optimiser, "LionW or AdamW, at every rate? (Figures S1 A and S2)"),
    "first_sweep": (_first_sweep, "the first version's learning rates (Figure S1)"),
    "modules": (_modules, "which linears need an adapter? (Figure 7)"),
    "regularisation": (_regularisation, "do weight decay or attention dropout forget less? (Figure 4)"),
    "matched": (_matched, "which linears, at equal numbers of trained weights? (LoRA Without Regret)"),
    "artefact": (_artefact, "is the high rank of the change the method's or the optimiser's? (not the paper's)"),
    "precision": (_precision, "what do weights without fp32 masters lose? (ablation, not the paper's)"),
}


def _at(run: Run, length: float) -> Run:
    return replace(run, budget=replace(run.budget, amount=length))


def _lora(scale: Scale, rank: int, *, alpha: float | None = None, targets: Targets = "all") -> LoRA:
    return LoRA(rank, alpha=2 * rank if alpha is None else alpha, targets=targets, dropout=scale.dropout)


def _middle(setting: Setting) -> float:
    return sorted(setting.lengths)[len(setting.lengths) // 2]


def _short(setting: Setting) -> list[float]:
    return [length for length in setting.lengths if length in SHORT]
