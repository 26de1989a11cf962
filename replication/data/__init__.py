"""From a `Source` to batches: documents, token shards on disk, rows of `seq_len` tokens.

sources.py   documents from a file, a folder, a hub id or a generator, with canonical columns
chat.py      an instruction row as token ids: where the prompt ends, that the response ends with end-of-text
tokens.py    documents tokenised once into memory-mapped shards
packing.py   concat-and-chunk blocks; best-fit packing of whole documents that cannot see each other
"""
