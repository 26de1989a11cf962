"""From a `Source` to batches: documents, token shards on disk, rows of `seq_len` tokens.

sources.py   documents from a file, a folder, a hub id or a generator, with canonical columns
chat.py      an instruction row as token ids: where the prompt ends, that the response ends with end-of-text
encode.py    documents cut into parts and tokenised, here or by worker processes
parts.py     the files of a data set while they grow, part by part, through kills
tokens.py    documents tokenised once into memory-mapped shards
audio.py     sound as a recogniser hears it         sounds.py       folders of recordings with transcripts
transcripts.py   transcripts as an encoder-decoder is taught them
labelled.py  short texts with a label each, padded to one length
packing.py   concat-and-chunk blocks; whole documents in a row, by best fit or by number, that cannot see each other
"""
