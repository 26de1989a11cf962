"""Every method: nothing changes at the start, what is saved is what answers again, merged and beside the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analysis import weights
from replication import doctor
from replication.config import AdaLoRA, BitFit, LoRA, Method, S2LoRA, VeRA
from replication.evals.vllm_engine import servable
from replication.methods import METHODS, attach
from replication.methods.merge import load_unmerged
from tests.replication.methods import pieces

ADAPTERS: tuple[Method, ...] = (
    LoRA(3, 6, dropout=0.0),
    AdaLoRA(4, 2, alpha=4),
    S2LoRA(5, scale=2.0),
    S2LoRA(5, start="b"),
    S2LoRA(5, unit=True, targets="attention"),
    VeRA(6),
    BitFit(),
)
# A Llama has no biases, and what varies between S2-LoRA's switches is not the kind of model.
CASES = [(m, "speech") for m in ADAPTERS] + [(m, "classifier") for m in (ADAPTERS[2], VeRA(6), BitFit())]
CASES += [(m, "language") for m in (ADAPTERS[1], ADAPTERS[2], VeRA(6))]


def _name(value: object) -> str:
    return value if isinstance(value, str) else value.label()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "kind"), CASES, ids=_name)
def test_a_fresh_adapter_changes_nothing_and_a_trained_one_answers_the_same_after_save_and_load(
    method: Method, kind: str, tmp_path: Path
) -> None:
    model = pieces.base(kind)
    model.save_pretrained(tmp_path / "base")
    before = pieces.answer(model, kind)
    attached = attach(model, method, seed=7, steps=20)
    assert torch.equal(pieces.answer(attached.model, kind), before)
    pieces.shake(attached)
    trained = pieces.answer(attached.model, kind)
    assert (trained - before).abs().max() > 0.01
    folder = pieces.saved(model, attached, tmp_path / "tuned")
    for again in pieces.loaded(tmp_path / "base", folder, kind):
        assert (again - trained).abs().max() < 1e-5 * max(1.0, float(trained.abs().max()))


@pytest.mark.parametrize("method", ADAPTERS, ids=_name)
def test_new_weights_are_drawn_from_the_seed_alone(method: Method) -> None:
    drawn = []
    for noise, seed in ((1, 3), (2, 3), (2, 4)):
        model = pieces.base("speech")
        torch.manual_seed(noise)
        attached = attach(model, method, seed=seed, steps=20)
        state = attached.model.state_dict()
        drawn.append(torch.cat([v.flatten() for k, v in state.items() if k.split(".")[-1] != "ranknum"]))
    assert torch.equal(drawn[0], drawn[1])
    assert isinstance(method, BitFit) == torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("method", [m for m in ADAPTERS if not isinstance(m, BitFit)], ids=_name)
def test_only_adapters_and_a_new_head_are_trained(method: Method) -> None:
    model = pieces.base("classifier")
    own = {name for name, _ in model.named_parameters()}
    trained = attach(model, method, seed=0, steps=20).trainable
    heads = [name for name in trained if "classifier" in name]
    assert len(heads) == 4  # weights and biases of pre_classifier and classifier
    assert not {name.removeprefix("model.") for name in trained if name not in heads} & own


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    model = pieces.base("speech")
    folder = pieces.saved(model, attach(model, S2LoRA(5), seed=0, steps=1), tmp_path / "tuned")
    pieces.base("language").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="name its own base"):
        load_unmerged(tmp_path / "other", folder)


def test_what_is_not_finite_is_not_merged(tmp_path: Path) -> None:
    model = pieces.base("speech")
    attached = attach(model, S2LoRA(5), seed=0, steps=1)
    with torch.no_grad():
        next(iter(attached.trainable.values()))[0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values in shared\.\d+x\d+\.a"):
        attached.model.merge_and_unload()  # type: ignore[operator]


@pytest.mark.parametrize("method", [m for m in ADAPTERS if not isinstance(m, LoRA)], ids=_name)
def test_what_reads_lora_alone_is_not_given_other_adapters(method: Method, tmp_path: Path) -> None:
    model = pieces.base("classifier")
    folder = pieces.saved(model, attach(model, method, seed=0, steps=20), tmp_path / "tuned")
    assert not servable(folder)  # so vLLM is given the merged model
    with pytest.raises(ValueError, match="is not plain LoRA"):
        weights.adapter(folder)
    with pytest.raises(ValueError, match="expected 'LORA'"):
        doctor._check_adapter(folder)


def test_every_method_of_the_configuration_has_its_own_attach() -> None:
    assert {type(m) for m in ADAPTERS} <= set(METHODS)
    assert len({attach for attach in METHODS.values()}) == len(METHODS)
