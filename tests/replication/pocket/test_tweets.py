"""The three splits of the tweets: nothing of one in another, and the published files read as they are."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from replication.pocket import tweet_texts, tweets
from replication.pocket.tweets import Row, Splits, bare, split


@pytest.fixture
def published(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published files, found by the variable that names their folder."""
    monkeypatch.setenv("REPLICATION_DATA", str(shared_data))
    return shared_data / "sentiment" / "twitter_financial_sentiment"


def texts(rows: list[Row]) -> set[str]:
    return {bare(row["text"]) for row in rows}


def no_text_twice(splits: Splits) -> bool:
    parts = [texts(rows) for rows in (splits.train, splits.validation, splits.test)]
    return len(set().union(*parts)) == sum(map(len, parts))


def test_links_and_spaces_are_no_text() -> None:
    assert bare("  $A falls\n https://t.co/abc  again http://x.y ") == "$A falls again"


def test_texts_of_the_test_are_not_trained_on() -> None:
    train = [{"id": f"a/{i}", "text": f"text {i % 40} https://t.co/{i}", "label": i % 2} for i in range(80)]
    test = [{"id": "b/0", "text": "text 3", "label": 1}, {"id": "b/1", "text": "new", "label": 0}]
    found = split([*train, {"id": "a/80", "text": "https://t.co/only", "label": 0}], test)
    assert found.test == test
    assert no_text_twice(found)
    assert len(found.validation) == 4  # a tenth of 19 odd and of 20 even texts
    assert Counter(row["label"] for row in found.validation) == {0: 2, 1: 2}
    # Both rows of each of the other 35 texts.
    assert len(found.train) == 70


def test_the_published_tweets_are_split_as_said(published: Path) -> None:
    raw = tweets.read(published / "sent_train.csv", name="train")
    assert Counter(row["label"] for row in raw) == {0: 1442, 1: 1923, 2: 6178}
    assert sum("\n" in row["text"] for row in raw) == 184
    tweets._recorded.cache_clear()
    rows = Splits(tweets.recorded_train(), tweets.recorded_validation(), tweets.recorded_test())
    assert Counter(row["label"] for row in rows.test) == {0: 347, 1: 475, 2: 1566}
    assert no_text_twice(rows)
    assert not [row for part in vars(rows).values() for row in part if "http" in row["text"] or "\n" in row["text"]]
    assert (len(rows.train), len(rows.validation)) == (8_527, 940)
    both = texts(raw) & texts(rows.test)
    assert (len(both), sum(bare(row["text"]) in both for row in raw)) == (32, 69)
    shares = [Counter(row["label"] for row in part) for part in (rows.train, rows.validation)]
    for label in range(3):
        assert shares[0][label] / len(rows.train) == pytest.approx(shares[1][label] / len(rows.validation), abs=0.005)


def test_the_hubs_layout_gives_the_same_tweets(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the data set under its hub name, beside the command, stands for the hub."""
    folder = tmp_path / tweets.HUB
    folder.mkdir(parents=True)
    for file in ("sent_train.csv", "sent_valid.csv"):
        shutil.copy(published / file, folder / file)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.chdir(tmp_path)
    tweets._hub.cache_clear()
    tweets._recorded.cache_clear()
    for part in ("train", "validation", "test"):
        hub, recorded = getattr(tweets, f"hub_{part}")(), getattr(tweets, f"recorded_{part}")()
        assert [(row["id"], bare(row["text"]), row["label"]) for row in hub] == [tuple(r.values()) for r in recorded]
    assert any("https://" in row["text"] for row in tweets.hub_train())
    tweets._hub.cache_clear()


def test_without_the_files_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tweets, "tweets", lambda: None)
    tweets._recorded.cache_clear()
    with pytest.raises(FileNotFoundError, match="REPLICATION_DATA, or use the synthetic tweets"):
        tweets.recorded_train()


def test_made_up_tweets_are_the_same_on_every_call_and_like_the_published_ones() -> None:
    rows = Splits(tweets.synthetic_train(), tweets.synthetic_validation(), tweets.synthetic_test())
    assert tweet_texts.rows("train") == tweet_texts.rows("train") != tweet_texts.rows("validation")
    assert no_text_twice(rows)
    for part, least in ((rows.train, 1_500), (rows.validation, 150), (rows.test, 700)):
        shares = Counter(row["label"] for row in part)
        assert len(part) >= least
        assert [shares[label] / len(part) for label in range(3)] == pytest.approx(tweet_texts.SHARES, abs=0.05)


def test_no_word_of_the_news_tells_its_class() -> None:
    """Of figures and moves, each comes with good and with bad news."""
    found: dict[str, set[int]] = {}
    for row in tweet_texts.rows("train"):
        for word in (*tweet_texts.GOOD, *tweet_texts.BAD, *tweet_texts.UP, *tweet_texts.DOWN):
            if f" {word}" in row["text"] and row["label"] != tweet_texts.NEUTRAL:
                found.setdefault(word, set()).add(row["label"])
    assert set(map(frozenset, found.values())) == {frozenset({0, 1})}


def test_a_label_that_is_no_number_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('text,label\r\n"a, b",1\r\n"c\nd",neutral\r\n')
    with pytest.raises(ValueError, match="row 1: the label is 'neutral'"):
        tweets.read(file, name="train")
