"""The mirror against stand-ins for its packages: every row arrives, and no failure reaches the training."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from replication.config import CPT, Budget, Full, LionW, Run, Source, Trapezoid, encode
from replication.mirror import open_mirror

ROWS = [{"step": step, "loss": 4.0 / step, "lr": 1e-3} for step in (1, 10, 20)]
RUN = Run(
    scale="test", study="loop", task=CPT(Source("data.jsonl")), model="owner/model", method=Full(), optim=LionW(1e-3),
    schedule=Trapezoid(2), budget=Budget(8, "steps"), global_batch=8, micro_batch=8, seq_len=32,
)  # fmt: skip
# What a failing package looks like from outside: its thread ends with the error, which Python prints.
ends_its_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Fake:
    """Stands for wandb, for trackio and for the runs and writers that they hand out; keeps every call."""

    def __init__(self, *, fail: str = "", error: BaseException | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.release = threading.Event()
        self._fail = fail
        self._error = error or ConnectionError("no network")

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Fake:
            self.calls.append((name, arguments, named))
            if name == self._fail:
                raise self._error
            if name == "hang":
                self.release.wait(20)
            return self

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


def install(monkeypatch: pytest.MonkeyPatch, name: str, fake: Fake) -> Fake:
    module = ModuleType(name)
    module.__getattr__ = fake.__getattr__  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, module)
    return fake


def send(kind: str, folder: Path) -> None:
    mirror = open_mirror(kind, RUN, folder)
    assert mirror is not None
    for row in ROWS:
        mirror.log(row)
    mirror.close()


def test_no_mirror_unless_asked(tmp_path: Path) -> None:
    assert open_mirror(None, RUN, tmp_path) is None


def test_wandb_gets_every_row_under_the_run_s_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "wandb", Fake())
    send("wandb", tmp_path)
    (((), begun),) = fake.of("init")
    assert begun["id"] == RUN.digest() and begun["resume"] == "allow" and begun["name"] == RUN.name()
    assert begun["config"] == encode(RUN) and begun["dir"] == str(tmp_path)
    # wandb refuses a step that goes back, as it does where a killed run resumes: the step is one of the metrics.
    assert fake.of("log") == [((row,), {}) for row in ROWS]
    assert (("*",), {"step_metric": "step"}) in fake.of("define_metric")
    assert len(fake.of("finish")) == 1


def test_trackio_gets_every_row_at_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "trackio", Fake())
    send("trackio", tmp_path)
    (((), begun),) = fake.of("init")
    assert begun["name"] == RUN.name() and begun["resume"] == "allow" and begun["config"] == encode(RUN)
    assert [(row, named["step"]) for (row,), named in fake.of("log")] == [
        ({"loss": row["loss"], "lr": row["lr"]}, row["step"]) for row in ROWS
    ]
    assert len(fake.of("finish")) == 1


def test_tensorboard_gets_every_value_beside_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "torch.utils.tensorboard", Fake())
    send("tensorboard", tmp_path)
    ((_, begun),) = fake.of("SummaryWriter")
    assert begun == {"log_dir": str(tmp_path / "tensorboard"), "purge_step": 1}
    sent = {arguments for arguments, _ in fake.of("add_scalar")}
    assert sent == {(name, row[name], row["step"]) for row in ROWS for name in ("loss", "lr")}
    assert len(fake.of("close")) == 1


def test_the_real_tensorboard_reads_back_what_was_sent(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    send("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in ROWS
    ]


@pytest.mark.parametrize("kind", ["wandb", "trackio", "tensorboard"])
def test_a_missing_package_is_an_error_that_names_its_installation(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (kind, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f"pip install {kind}"):
        open_mirror(kind, RUN, tmp_path)


def test_an_unknown_kind_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wandb, trackio, tensorboard"):
        open_mirror("mlflow", RUN, tmp_path)


@ends_its_thread
@pytest.mark.parametrize("fails", ["init", "define_metric", "log", "finish"])
@pytest.mark.parametrize("error", [ConnectionError("no network"), AttributeError("a bug of theirs"), SystemExit(1)])
def test_a_failure_is_told_once_and_never_raised(
    fails: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch, "wandb", Fake(fail=fails, error=error))
    mirror = open_mirror("wandb", RUN, tmp_path)
    assert mirror is not None
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            mirror.log(ROWS[0])
            time.sleep(0.002)
        mirror.close()
        mirror.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "has stopped; training goes on" in told[0]


def test_a_mirror_that_hangs_holds_up_neither_the_loop_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Fake()
    fake.log = lambda row: fake.hang()  # type: ignore[attr-defined]
    install(monkeypatch, "wandb", fake)
    monkeypatch.setattr(sys.modules["wandb"], "init", lambda **_: fake, raising=False)
    mirror = open_mirror("wandb", RUN, tmp_path)
    assert mirror is not None
    began = time.monotonic()
    for _ in range(1000):
        mirror.log(ROWS[0])
    mirror.close(seconds=0.2)
    assert time.monotonic() - began < 5
    assert "left behind" in caplog.text
    fake.release.set()


def test_a_mirror_without_a_row_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "wandb", Fake())
    mirror = open_mirror("wandb", RUN, tmp_path)
    assert mirror is not None
    mirror.close()
    assert fake.calls == []


def test_a_row_is_sent_as_it_was_when_it_was_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "wandb", Fake())
    mirror = open_mirror("wandb", RUN, tmp_path)
    assert mirror is not None
    row = dict(ROWS[0])
    mirror.log(row)
    row["loss"] = -1.0
    mirror.close()
    assert fake.of("log")[0][0][0]["loss"] == ROWS[0]["loss"]
