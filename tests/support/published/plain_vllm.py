"""A program that has only vLLM: it loads a folder with its remote code, and answers as `vllm serve` would.

    python -P plain_vllm.py FOLDER PICTURES ANSWERS PACKAGE...

PACKAGES are ours, and cannot be imported. Of each picture in the folder PICTURES, by name, and of no picture, ANSWERS
gets the tokens of the prompt, of the greedy answer, and their logarithmic probabilities.
"""

import importlib.abc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUESTION = "Describe the picture!!\n\nIs it 1234 or  red?"


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses to import packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.partition(".")[0] in self.packages:
            raise ImportError(name)


def main(folder: str, pictures: str, answers: str, packages: Sequence[str]) -> None:
    sys.meta_path.insert(0, Blocker(packages))
    import torch
    from PIL import Image
    from vllm import LLM, SamplingParams

    if not torch.backends.cuda.is_built():  # vLLM's resampler asks for it on CPU too, where it raises
        torch.cuda.is_current_stream_capturing = lambda: False
    llm = LLM(
        folder,
        trust_remote_code=True,
        dtype="float32",
        max_model_len=1024,
        max_num_seqs=4,
        enforce_eager=True,
        block_size=32,
        kv_cache_memory_bytes=2**29,
        enable_chunked_prefill=False,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )
    assert not sys.modules.keys() & set(packages)
    params = SamplingParams(temperature=0, max_tokens=24, logprobs=0)
    rows = []
    for file in [None, *sorted(Path(pictures).iterdir())]:
        content: list[Any] = [{"type": "text", "text": QUESTION}]
        if file is not None:
            content.insert(0, {"type": "image_pil", "image_pil": Image.open(file)})
        messages: Any = [{"role": "user", "content": content}]
        (output,) = llm.chat(messages, params, use_tqdm=False)
        (answer,) = output.outputs
        positions: Any = zip(answer.token_ids, answer.logprobs or (), strict=True)
        logprobs = [position[token].logprob for token, position in positions]
        rows.append(
            {
                "prompt": output.prompt_token_ids,
                "answer": answer.token_ids,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "logprobs": logprobs,
            }
        )
    Path(answers).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
