import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import prepare, studies
from experiments.scales import POCKET
from replication.config import CPT, IFT, Source
from replication.models import load_tokenizer
from replication.runs import find_runs
from replication.scale import DataSize, Scale
from replication.tasks import open_stream


@pytest.fixture
def tiny(tiny_model: Path, tiny_corpus: Path, tiny_instructions: Path) -> Scale:
    """The pocket's four settings on sixty documents and sixty instructions."""
    tasks = {"cpt": CPT(Source(str(tiny_corpus))), "ift": IFT(Source(str(tiny_instructions)), "{prompt}=")}
    settings = tuple((name, replace(s, task=tasks[s.regime])) for name, s in POCKET.settings)
    return replace(POCKET, model=str(tiny_model), settings=settings)


def options(runs: Path, study: str = "study", workers: int = 1) -> argparse.Namespace:
    return argparse.Namespace(study=study, runs=runs, workers=workers, seeds=1)


def test_every_distinct_data_set_is_prepared_once_and_training_finds_it(
    tiny: Scale, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.run(options(tmp_path), tiny) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["data", "set", "documents", "tokens", "disk", "digest", "seconds"]
    assert len(table) == 3  # two settings each read the same documents
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/tokens.bin")}
    assert len(made) == 2
    for run in studies.runs("study", tiny, seeds=1):
        open_stream(run, load_tokenizer(run.model), cache=tmp_path / "cache")
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/tokens.bin")}
    assert find_runs(tmp_path, scale="pocket") == []


def test_the_same_command_checks_and_redoes_nothing(
    tiny: Scale, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.run(options(tmp_path, "cpt_code"), tiny) == 0
    first = capsys.readouterr().out.splitlines()[1].split()
    (file,) = (tmp_path / "cache").glob("*/tokens.bin")
    written = file.stat().st_mtime_ns
    assert prepare.run(options(tmp_path, "cpt_code"), tiny) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:-1] == first[:-1]
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-2] + b"\x00\x00")
    assert prepare.run(options(tmp_path, "cpt_code"), tiny) == 1
    assert "is not what was written" in capsys.readouterr().err


def test_one_data_set_that_fails_leaves_the_others_prepared(
    tiny: Scale, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (name, first), *rest = tiny.settings
    gone = replace(first, task=CPT(Source("no-owner/no-set", revision="abc")))
    assert prepare.run(options(tmp_path), replace(tiny, settings=((name, gone), *rest))) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "FAILED no-owner/no-set: no data at 'no-owner/no-set'" in err
    assert "hf auth login" in err
    assert "1 of 3 data sets failed; the same command continues" in err


def test_the_expected_size_is_the_settings_or_the_limit_on_tokens(tiny: Scale) -> None:
    name, setting = tiny.settings[0]
    sized = replace(tiny, settings=((name, replace(setting, size=DataSize(60, 5000, "counted"))),))
    (data,) = prepare.data_sets(studies.runs(name, sized, seeds=1))
    assert prepare.expected(data, tiny) is None
    assert prepare.expected(data, sized) == 5000
    source = replace(data.source, max_tokens=1000)
    task = CPT(source)
    shorter = replace(sized, settings=((name, replace(sized.settings[0][1], task=task)),))
    assert prepare.expected(replace(data, source=source), shorter) == 1000
    assert prepare.expected(replace(data, source=replace(source, limit=3)), shorter) is None


INTERRUPTED = """
import os, signal, sys
from experiments import __main__ as command
from replication.data import encode, parts

encode.PART_DOCUMENTS = 100
append = parts.Growing.append

def killing(self, *given):
    append(self, *given)
    if self.parts == 3:
        os.kill(os.getpid(), signal.SIGTERM)

parts.Growing.append = killing
sys.exit(command.main(["prepare", "ift_code", "--runs", sys.argv[1]]))
"""


def test_sigterm_ends_it_with_the_word_that_the_same_command_continues(tmp_path: Path, forked: SimpleNamespace) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = forked.call(tmp_path / "interrupted.py", tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the same command continues" in done.stderr
    assert "Traceback" not in done.stderr
    (journal,) = tmp_path.glob("cache/*.partial/parts.jsonl")
    assert len(journal.read_text().splitlines()) == 3
