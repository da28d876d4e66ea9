"""K responses of the policy to every prompt of `generation.splits`.

Reads of `prompts` the columns prompt_id, image, instruction and split: what is true of an image stays out of sampling.
Columns written to `responses`: response_id, prompt_id, sample_index, seed, text, finish_reason, num_tokens,
temperature, top_p, policy, policy_revision, round. `seed` is the prompt's; response i was drawn with seed + i. A
response that reached max_tokens keeps finish_reason "length"; an empty one is kept too: the pair builder drops it
by name.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rlaif.config import Config
from rlaif.engine import REFUSALS, Completion, Engine, Request
from rlaif.run import Run
from rlaif.tables import TableWriter, make_id, read_rows
from rlaif.words import storable

PROMPTS_AT_ONCE = 200  # asked for in one go and then on disk; bounds memory and what a kill costs


def sample_responses(run: Run, engine: Engine, policy_revision: str, writer: TableWriter) -> None:
    """Answer the prompts that `writer` has no responses to. A prompt that the policy cannot take is dropped by name."""
    total = sum(1 for _ in _prompts(run, ["prompt_id"]))
    done = len(writer.done)
    rows = _prompts(run, ["prompt_id", "image", "instruction"])
    todo = (row for row in rows if row["prompt_id"] not in writer.done)
    while prompts := list(islice(todo, PROMPTS_AT_ONCE)):
        requests = [response_request(row, run.config) for row in prompts]
        answers = engine.generate(requests, f"responses to prompts {done + 1}-{done + len(prompts)} of {total}")
        for prompt, request, completions in zip(prompts, requests, answers, strict=True):
            if (refusal := completions[0].finish_reason) in REFUSALS:
                run.drop(prompt["prompt_id"], refusal, REFUSALS[refusal])
            else:
                writer.write(response_rows(prompt["prompt_id"], request, completions, run.config, policy_revision))
        writer.flush()
        done += len(prompts)


def response_request(prompt: dict[str, Any], config: Config) -> Request:
    """One request for all K responses of a prompt, with a seed of its own: it does not depend on the other prompts."""
    sampling = config.generation
    return Request(
        text=prompt["instruction"],
        image=prompt["image"]["bytes"],
        n=sampling.num_responses,
        seed=int(make_id(str(config.seed), prompt["prompt_id"]), 16) % 2**31,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
    )


def response_rows(
    prompt_id: str, request: Request, completions: list[Completion], config: Config, policy_revision: str
) -> list[dict[str, Any]]:
    """The rows of `responses` for one prompt."""
    return [
        {
            "response_id": make_id(prompt_id, str(config.round), str(index)),
            "prompt_id": prompt_id,
            "sample_index": index,
            "seed": request.seed,
            "text": storable(completion.text),
            "finish_reason": completion.finish_reason,
            "num_tokens": completion.num_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "policy": config.policy.model,
            "policy_revision": policy_revision,
            "round": config.round,
        }
        for index, completion in enumerate(completions)
    ]


def _prompts(run: Run, columns: list[str]) -> Iterator[dict[str, Any]]:
    return read_rows(run, "prompts", columns, filter={"split": run.config.generation.splits})
