"""Asks vLLM in a process of its own: it warns while it is imported, and binds the threads of its process.

    python ask_vllm.py REQUEST.json ANSWERS.json

REQUEST: base, adapters, max_tokens, asked (model: a folder, or null for the base; its pairs and prompts), way:
    turns     one engine answers all, in this order
    fresh     each has an engine of its own
    broken    one engine, whose reload forgets what shares another layer's weight; the gates' findings are the answer
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(request: dict[str, Any]) -> list[Any]:
    from replication import gates
    from replication.evals import vllm_worker
    from replication.evals.sampling import Sampling
    from replication.evals.vllm_engine import VLLMGenerator
    from replication.models import Weights, load_tokenizer

    base, tokenizer = request["base"], load_tokenizer(request["base"])
    adapters = [Path(folder) for folder in request["adapters"]]
    if request["way"] == "broken":
        vllm_worker._pack_again = lambda model: None
    engine, answers = None, []
    for asked in request["asked"]:
        model = Weights(base, Path(asked["model"]) if asked["model"] else None)
        if engine is None or request["way"] == "fresh":
            if engine is not None:
                engine.close()
            engine = VLLMGenerator(base, tokenizer, adapters=adapters)
        engine.load(model)
        if request["way"] == "broken":
            answers.append(gates.engine_agrees(engine, model, tokenizer).outcome)
            continue
        sampling = Sampling(max_tokens=request["max_tokens"], stop=("Question:",))
        found = engine.generate(asked["prompts"], sampling)
        answers.append(
            {
                "logprobs": engine.logprobs(asked["pairs"]),
                "completions": [[c.text, c.tokens, c.finish] for (c,) in found],
            }
        )
    return answers


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
