"""The tokenizer: byte-complete, about 1,200 tokens, none of which straddles a boundary that a prompt can end at.

Text is cut into pieces first: a newline stands alone, a run of two or more spaces (indentation) stands alone, no token
holds two digits, and a word or a digit takes at most the one space before it (with " 7" in two tokens a
constant stood two places from the word that announces it, and copying it was not learnt). With a boundary such
as "\\n    " inside one token every code prompt would end in a spelling the model never saw in training (a
prototype scored 0 % on code for this reason). `decode(encode(text)) == text` for every text; encode adds nothing.

The vocabulary is listed, not merged: the 256 bytes, the syllables of made-up names, then the most frequent other
pieces of the base's pretraining text. So every made-up name is spelled in the same two tokens whether the
base has read it or not, and no token is the left-over of a merge that no text ever uses. The model is a
unigram model in which a byte costs more than any piece: the spelling with the fewest tokens wins.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from replication.pocket.names import SYLLABLES

VOCABULARY = 1280  # at most; the pretraining text has some 1,200 different pieces, bytes included
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SPECIAL = (BOS, EOS, PAD)  # ids 0, 1, 2
PIECES = r"\n| {2,}| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s"
PIECE_SCORE, BYTE_SCORE = -1.0, -10.0


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer whose word pieces are the most frequent ones of `texts`."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = {piece: byte_level.pre_tokenize_str(piece)[0][0] for piece in _pieces(texts)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [word for word in spelled.values() if len(word) > 1]
    room = VOCABULARY - len(SPECIAL) - len(alphabet)
    scored = [(token, 0.0) for token in SPECIAL] + [(byte, BYTE_SCORE) for byte in alphabet]
    scored += [(word, PIECE_SCORE) for word in words[:room]]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=SPECIAL.index(PAD), byte_fallback=False))
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer so that AutoTokenizer.from_pretrained(folder) reads it."""
    tokenizer.save_pretrained(str(folder))


def _pieces(texts: Iterable[str]) -> list[str]:
    """The syllables in all their spellings, then every piece of the texts that is no made-up name, frequent first."""
    syllables = [form(syllable) for syllable in SYLLABLES for form in (str, str.capitalize)]
    syllables += [f" {syllable}" for syllable in syllables]
    name = re.compile(rf" ?(?:{'|'.join(SYLLABLES)}){{2}}", re.IGNORECASE)
    counts = Counter(piece for text in texts for piece in re.findall(PIECES, text) if not name.fullmatch(piece))
    words = sorted(counts, key=lambda piece: (-counts[piece], piece))
    return list(dict.fromkeys([*syllables, *words]))
