from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration

from replication.evals import transcriber
from replication.evals.transcriber import Transcriber
from replication.models import Form, Weights
from tests.replication import speech_models


def reader(folder: Path) -> Transcriber:
    return Transcriber(Weights(str(folder), None, Form("speech")))


def features(own: Transcriber, count: int) -> torch.Tensor:
    rows = speech_models.clips(count, seed=4)
    return next(transcriber.batches(rows, own.extractor(), names=[row["id"] for row in rows], size=count))


def cut(tokens: list[int], prompt: int, end: int) -> list[int]:
    found = tokens[prompt:]
    return found[: found.index(end)] if end in found else found


@pytest.mark.parametrize(("make", "language"), [(speech_models.english, None), (speech_models.multilingual, "hindi")])
def test_transcripts_are_those_of_transformers(
    tmp_path: Path, make: Callable[[Path], Path], language: str | None
) -> None:
    own = reader(make(tmp_path))
    asked, model, heard = own.conventions(language), own.untuned(), features(own, 12)
    found = transcriber.write(model, heard, asked, max_tokens=20)
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    told = {} if language is None else {"language": "hi", "task": "transcribe"}
    whole = theirs.generate(heard, max_new_tokens=20, do_sample=False, num_beams=1, **told).tolist()
    prompt = len(asked.prompt) if whole[0][: len(asked.prompt)] == asked.prompt else 0
    # Where no end was written, transformers goes on as if more sound followed.
    assert found == [cut(row, prompt, asked.end)[:20] for row in whole]
    assert len({tuple(row) for row in found}) > 4  # they depend on the sound
    assert len({len(row) for row in found}) > 1  # and end at different places


def test_suppressed_tokens_are_never_written_and_first_ones_not_at_first(tmp_path: Path) -> None:
    own = reader(speech_models.multilingual(tmp_path))
    asked, heard = own.conventions("en"), features(own, 12)
    assert (asked.suppressed, asked.suppressed_first, asked.prompt) == (
        [12, 13, 14, 8], [11, 3], [12, 8, 10, 14]
    )  # fmt: skip
    rows = transcriber.write(own.untuned(), heard, asked, max_tokens=20)
    assert not {12, 13, 14, 8} & {token for row in rows for token in row}
    assert all(row and row[0] != 3 for row in rows)


def test_a_batch_writes_what_its_clips_write_alone(tmp_path: Path) -> None:
    own = reader(speech_models.english(tmp_path))
    asked, model, heard = own.conventions(None), own.untuned(), features(own, 6)
    together = transcriber.write(model, heard, asked, max_tokens=12)
    alone = [transcriber.write(model, clip[None], asked, max_tokens=12)[0] for clip in heard]
    assert together == alone


def test_more_tokens_than_the_decoder_has_room_for_are_refused(tmp_path: Path) -> None:
    own = reader(speech_models.save(tmp_path))
    with pytest.raises(ValueError, match="31 tokens are asked for and the decoder has room for 30"):
        transcriber.write(own.untuned(), features(own, 1), own.conventions(None), max_tokens=31)


def test_nats_are_the_loss_of_transformers(tmp_path: Path) -> None:
    own = reader(speech_models.save(tmp_path))
    heard = features(own, 2)
    reads = torch.tensor([[12, 14, 7, 5, 6], [12, 14, 7, 11, 11]])
    labels = torch.tensor([[-100, 7, 5, 6, 11], [-100, 7, 11, -100, -100]])
    model = own.untuned()
    summed, counts = transcriber.nats(model, heard, reads, labels)
    assert counts == [4, 2]
    for i in range(2):
        with torch.no_grad():
            alone = model(heard[i : i + 1], decoder_input_ids=reads[i : i + 1], labels=labels[i : i + 1])
        assert summed[i] / counts[i] == pytest.approx(float(alone.loss), rel=1e-5)


def test_conventions_of_a_real_model_are_read_from_its_generation_configuration(tmp_path: Path) -> None:
    folder = speech_models.save(tmp_path)
    GenerationConfig(
        decoder_start_token_id=50258, eos_token_id=50257, no_timestamps_token_id=50363, lang_to_id={"<|hi|>": 50276},
        task_to_id={"transcribe": 50359}, suppress_tokens=[1, 2, 7], begin_suppress_tokens=[220, 50257],
    ).save_pretrained(folder)  # fmt: skip
    found = reader(folder).conventions("hindi")
    assert vars(found) == {
        "prompt": [50258, 50276, 50359, 50363], "end": 50257, "suppressed": [1, 2, 7], "suppressed_first": [220, 50257]
    }  # fmt: skip
