"""Preparation that is killed, shared, bounded in memory and in tokens."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from replication.config import Source
from replication.data import chat, encode, parts, sources, tokens
from replication.data.tokens import open_shards, prepare_instruct, prepare_text, verify

ROOT = Path(__file__).parents[3]

PREPARE = """
import logging, sys, time
from pathlib import Path
from types import SimpleNamespace
from tokenizers import Tokenizer
from replication.config import Source
from replication.data import encode, parts, tokens

class Neox(SimpleNamespace):  # what a fast tokenizer has, without the seconds that transformers takes to load
    chat_template, eos_token_id = None, 0
    def __len__(self):
        return 50277

def main():
    where, tokenizer, cache, workers, pause = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    encode.PART_DOCUMENTS = 5
    made = []
    append = parts.Growing.append

    def slowly(self, *given):
        append(self, *given)
        made.append(self.parts)
        time.sleep(float(pause))

    parts.Growing.append = slowly
    neox = Neox(backend_tokenizer=Tokenizer.from_file(tokenizer))
    shards = tokens.prepare_text(Source(where), neox, Path(cache), workers=int(workers))
    print(shards.digest, shards.content, len(made))

if __name__ == "__main__":
    main()
"""
PARTS = 24  # of 120 documents


@pytest.fixture(scope="module")
def code(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 Python files."""
    packed = shared_data / "corpora/code_thealgorithms/thealgorithms_python.jsonl.gz"
    folder = tmp_path_factory.mktemp("code")
    with gzip.open(packed, "rt") as lines:
        for i, line in enumerate(islice(lines, 120)):
            (folder / f"{i:03d}.py").write_text(json.loads(line)["text"])
    return folder


@pytest.fixture
def command(shared_data: Path, code: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`command(cache, workers, pause)`: a process that prepares the code, resting after each part."""
    script = tmp_path / "prepare_code.py"
    script.write_text(PREPARE)
    tokenizer = shared_data / "tokenizers/pythia_20B_tokenizer.json"

    def start(cache: str, *, workers: int = 1, pause: float = 0.0) -> subprocess.Popen[str]:
        given = [str(code), str(tokenizer), str(tmp_path / cache), str(workers), str(pause)]
        return subprocess.Popen(
            [sys.executable, str(script), *given],
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def sealed(cache: Path) -> int:
    """Parts that are sealed under a cache."""
    return sum(len(path.read_text().splitlines()) for path in cache.glob("*/parts.jsonl"))


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline and process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def outcome(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Data digest, content digest and parts that a process made."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    digest, content, made = out.split()
    return digest, content, int(made)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_and_restarted_preparation_gives_the_same_data_and_redoes_no_finished_part(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path, workers: int
) -> None:
    undisturbed = command("undisturbed")
    killed = command("killed", workers=workers, pause=0.1)
    wait_until(lambda: sealed(tmp_path / "killed") >= 6, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    finished = sealed(tmp_path / "killed")
    assert 6 <= finished < PARTS
    assert not list((tmp_path / "killed").glob("*/meta.json"))
    assert outcome(command("killed", workers=workers)) == (*outcome(undisturbed)[:2], PARTS - finished)
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")


def files(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.glob("*/*")}


def test_two_processes_at_once_tokenise_once(command: Callable[..., subprocess.Popen[str]]) -> None:
    processes = [command("both", pause=0.02) for _ in range(2)]
    one, two = (outcome(process) for process in processes)
    assert one[:2] == two[:2]
    assert sorted((one[2], two[2])) == [0, PARTS]


def test_who_waits_goes_on_where_the_first_was_killed(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = command("handed", pause=30)
    wait_until(lambda: sealed(tmp_path / "handed") == 1, first)
    second = command("handed")
    assert second.stderr is not None
    assert "another process prepares these data" in second.stderr.readline()
    first.kill()
    first.communicate()
    assert outcome(second)[2] == PARTS - 1


def test_workers_render_instructions_as_this_process_does(
    words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 3)
    letters = "abcdefghij"
    rows = [{"prompt": letters[i % 7], "response": " ".join(letters[: i % 10 + 1])} for i in range(40)]
    encoder = encode.encoder(words, "{prompt} :")
    cuts = list(encode.cut(iter(rows), encoder.columns, where="rows"))
    assert len(cuts) == 14
    here = [encoded for _, encoded in encode.tokenise(cuts, encoder)]
    there = [encoded for _, encoded in encode.tokenise(iter(cuts), encoder, workers=2)]
    for one, two in zip(here, there, strict=True):
        assert one.tokens.dtype == two.tokens.dtype
        assert [a.tolist() for a in vars(one).values()] == [a.tolist() for a in vars(two).values()]


def test_the_cut_into_parts_does_not_change_the_content(
    code: Path, words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {prepare_text(Source(str(code)), words, tmp_path / "whole").content}
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 7)
    contents |= {prepare_text(Source(str(code)), words, tmp_path / "documents").content}
    monkeypatch.setattr(encode, "PART_CHARACTERS", 5000)
    monkeypatch.setattr(encode, "CALL_CHARACTERS", 300)
    contents |= {prepare_text(Source(str(code)), words, tmp_path / "characters").content}
    assert len(contents) == 1


def test_ids_are_those_of_the_tokenizer_called_the_usual_way(code: Path, neox: PreTrainedTokenizerFast) -> None:
    texts = [path.read_text() for path in sorted(code.iterdir())]
    neox.backend_tokenizer.enable_truncation(5)  # as an earlier call may have left it
    neox.backend_tokenizer.enable_padding()
    found = chat.ids_of(neox, texts)
    assert found == neox(texts, verbose=False)["input_ids"]
    assert max(map(len, found)) > 1000


# ---------------------------------------------------------------- by hand

TEN = [{"text": "a b c"}] * 10  # four tokens each


def interrupted(source: Source, tokenizer: PreTrainedTokenizerFast, cache: Path, after: int) -> Path:
    """Prepare until `after` parts are sealed; returns the folder that is left."""

    def watch(tokens: int) -> None:
        if sealed(cache) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_text(source, tokenizer, cache, watch=watch)
    (partial,) = cache.iterdir()
    return partial


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-20] + b"\x07" + raw[-19:], lambda raw: b""])
def test_a_damaged_part_is_found_and_made_anew(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 2)
    source = generated(TEN)
    undisturbed = prepare_text(source, words, tmp_path / "undisturbed")
    partial = interrupted(source, words, tmp_path / "cache", after=3)
    (partial / name).write_bytes(damage((partial / name).read_bytes()))
    again = prepare_text(source, words, tmp_path / "cache")
    assert "is damaged" in caplog.text
    assert verify(again) == undisturbed.content
    assert (again.folder / "offsets.npy").read_bytes() == (undisturbed.folder / "offsets.npy").read_bytes()


def test_a_torn_line_and_bytes_without_one_are_cut_off(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 2)
    source = generated(TEN)
    partial = interrupted(source, words, tmp_path / "cache", after=3)
    with (partial / "parts.jsonl").open("a") as journal, (partial / "tokens.bin").open("ab") as tokens:
        journal.write('{"rows": 2, "bla')
        tokens.write(b"\x01\x02\x03")
    assert prepare_text(source, words, tmp_path / "cache").tokens.tolist() == [1, 2, 3, 0] * 10


def test_an_unfinished_folder_is_no_shard(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 2)
    partial = interrupted(generated(TEN), words, tmp_path / "cache", after=4)
    with pytest.raises(FileNotFoundError, match="no token shard"):
        open_shards(partial)


def test_damage_that_sampling_misses_is_found_by_verify(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of 4000 bytes the first and the last 40, as of 40 GB the first and last 64 KiB and some between.
    monkeypatch.setattr(tokens._checksum, "__kwdefaults__", {"pieces": 2, "piece": 40})
    shards = prepare_text(generated([{"text": "a b c d " * 100}] * 5), words, tmp_path)
    path = shards.folder / "tokens.bin"
    raw = path.read_bytes()
    path.write_bytes(raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:])
    damaged = open_shards(shards.folder)
    with pytest.raises(ValueError, match="corrupt token shard"):
        verify(damaged)
    path.write_bytes(raw)
    assert verify(open_shards(shards.folder)) == shards.content


@pytest.mark.parametrize(("wanted", "documents"), [(1, 1), (4, 1), (5, 2), (20, 5), (21, 6), (39.5, 10), (1e9, 10)])
@pytest.mark.parametrize("size", [1, 3, 4096])
def test_training_data_end_with_the_document_that_reaches_max_tokens(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: float,
    documents: int,
    size: int,
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", size)
    shards = prepare_text(replace(generated(TEN), max_tokens=wanted), words, tmp_path)
    assert (shards.n_docs, shards.n_tokens) == (documents, 4 * documents)
    assert (shards.folder / "tokens.bin").stat().st_size == 8 * documents


def test_max_tokens_reads_no_further_than_it_must(
    words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(source: Source, *, stream: bool) -> object:
        while True:
            yield {"text": "a b c"}

    (tmp_path / "d.txt").write_text("x")
    monkeypatch.setattr(sources, "documents", endless)
    shards = prepare_text(Source(str(tmp_path / "d.txt"), max_tokens=50_000), words, tmp_path / "cache")
    assert shards.n_tokens == 50_000


def test_blank_rows_before_a_kill_are_counted_and_not_read_again(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(encode, "PART_DOCUMENTS", 2)
    source = generated([{"text": t} for t in ("a", " ", "b", "", "c", "d", "e", " ")])
    interrupted(source, words, tmp_path / "cache", after=1)
    assert prepare_text(source, words, tmp_path / "cache").tokens.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert "left out 3 documents without text" in caplog.text


# ---------------------------------------------------------------- memory

PEAK = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from tokenizers import Tokenizer
from replication.config import Source
from replication.data import encode, tokens

class Neox(SimpleNamespace):
    chat_template, eos_token_id = None, 0
    def __len__(self):
        return 50277

encode.PART_CHARACTERS = encode.CALL_CHARACTERS = 1 << 16
neox = Neox(backend_tokenizer=Tokenizer.from_file(sys.argv[1]))
shards = tokens.prepare_text(Source(sys.argv[2]), neox, Path(sys.argv[3]))
print(shards.n_tokens, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_data(shared_data: Path, tmp_path: Path) -> None:
    story = (shared_data / "corpora/tinystories_b/tinystories_b.txt").read_text()
    small, large = (_peak(shared_data, tmp_path / str(copies), story, copies) for copies in (1, 10))
    assert large[0] > 9.5 * small[0]
    assert large[1] - small[1] < 6, (small, large)


def _peak(shared_data: Path, folder: Path, story: str, copies: int) -> tuple[int, int]:
    """Tokens of so many copies of the story, and the peak memory in MiB of preparing them."""
    (folder / "documents").mkdir(parents=True)
    for i in range(copies):
        (folder / "documents" / f"{i}.txt").write_text(f"{i} {story}")
    given = [
        str(shared_data / "tokenizers/pythia_20B_tokenizer.json"),
        str(folder / "documents"),
        str(folder / "cache"),
    ]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PEAK, *given], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    tokens, peak = map(int, done.stdout.split())
    return tokens, peak


def test_arrays_are_those_that_numpy_would_save(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    rows = [{"prompt": "a b", "response": "c"}, {"prompt": "", "response": "d e"}]
    shards = prepare_instruct(generated(rows), "{prompt} ", words, tmp_path)
    for name, values in (("offsets.npy", [0, 4, 7]), ("prompt_lengths.npy", [2, 0])):
        np.save(tmp_path / name, np.asarray(values, dtype=np.int64))
        assert (shards.folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_header_keeps_its_length_however_many_documents() -> None:
    assert {len(parts._header(10**k)) for k in range(12)} == {parts._HEADER}
