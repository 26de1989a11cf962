"""The embedded world: a generated source, code and maths corpus, their benchmarks, and the base model.

The world is small enough that a Llama of about 0.9M parameters learns it in a quarter of an hour on one
core, and it is shaped like the paper's setting: a base that is good at the source (English-like text),
weak but not blank at the targets (code, maths), two continued-pretraining corpora that carry much to
remember, and two instruction sets that carry mostly form and skill.

    names.py       made-up words, and the one seeded random stream every generator draws from
    world.py       what is true in the world: towns, people, everyday scripts, fairs, deeds and their reasons
    source.py      the source text, and its three multiple-choice benchmarks: what_next, facts, which
    operations.py  arithmetic steps that can be written as Python, in words, and computed
    code.py        the code target: a library to remember (CPT), composition to learn (IFT)
    maths.py       the maths target: units and prices to remember (CPT), word problems (IFT)
    template.py    the instruct template
    tokenizer.py   the byte-complete tokenizer
    pretrain.py    the base's architecture, its data mixture, and the measured recipe
    base/          the shipped base checkpoint, with its card

Beside the world, for the side studies:

    speech.py      spoken digits in clips, and a recogniser made from some of their speakers
    recogniser.py  that recogniser: a small Whisper, its tokenizer, how it is taught
    voices.py      synthetic voices     recordings.py  where recorded ones lie
    tweets.py      financial tweets in three splits: published (tweet_files.py) or made up (tweet_texts.py)
    masked.py      the small DistilBERT of the tweets: vocabulary and pretraining
    made.py        where models that are made on the spot are kept

Every generator takes no argument, draws from its own fixed stream, and returns the same rows on every
call, so a data source can be named "python:replication.pocket.code:cpt_documents".
"""
