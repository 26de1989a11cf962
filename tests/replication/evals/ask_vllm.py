"""Asks vLLM in a process of its own: it warns while it is imported, and binds the threads of its process.

    python ask_vllm.py REQUEST.json ANSWERS.json

REQUEST: base, adapters, max_tokens, and for each way what is asked (model: a folder, or null for the base; its pairs
and prompts):

    turns     one engine answers all, in this order
    fresh     each has an engine of its own
    broken    one engine, whose reload forgets what shares another layer's weight; the gates' findings are the answer
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(request: dict[str, Any]) -> dict[str, list[Any]]:
    return {way: answers(way, asked, request) for way, asked in request["ways"].items()}


def answers(way: str, questions: list[dict[str, Any]], request: dict[str, Any]) -> list[Any]:
    from replication import gates
    from replication.evals import vllm_worker
    from replication.evals.sampling import Sampling
    from replication.evals.vllm_engine import VLLMGenerator
    from replication.models import Weights, load_tokenizer
    from replication.runs import is_adapter

    base, tokenizer = request["base"], load_tokenizer(request["base"])
    adapters = [Path(folder) for folder in request["adapters"]]
    if way == "broken":
        vllm_worker._pack_again = lambda model: None
    engine, found = None, []
    for asked in questions:
        model = Weights(base, Path(asked["model"]) if asked["model"] else None)
        if engine is None or way == "fresh":
            if engine is not None:
                engine.close()
            if way == "fresh" and model.tuned is not None and not is_adapter(model.tuned):
                model = Weights(str(model.tuned))  # a full checkpoint is what its own engine starts with
            engine = VLLMGenerator(model.base, tokenizer, adapters=adapters)
        engine.load(model)
        if way == "broken":
            found.append(gates.engine_agrees(engine, model, tokenizer).outcome)
            continue
        sampling = Sampling(max_tokens=request["max_tokens"], stop=("Question:",))
        completions = [[c.text, c.tokens, c.finish] for (c,) in engine.generate(asked["prompts"], sampling)]
        found.append({"logprobs": engine.logprobs(asked["pairs"]), "completions": completions})
    if engine is not None:
        engine.close()
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
