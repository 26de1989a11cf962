"""The instruct template: one format for training rows and for the benchmarks that score them.

The base has read a few hundred instructions in this format among its pretraining text, so that none of the
template's tokens is dead: LoRA cannot revive an embedding that pretraining never touched.
"""

TEMPLATE = "Instruction: {prompt}\nResponse:\n"


def instruct(prompt: str) -> str:
    """Render one instruction; the response follows directly."""
    return TEMPLATE.format(prompt=prompt)
