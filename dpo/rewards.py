"""Score responses by what an aligned policy prefers: the DPO reward of each response, per token.

    python -m dpo.rewards --config runs/demo/best-of-n/config.yaml --run runs/demo/best-of-n

r = beta / T * ln(policy(response) / reference(response)), where T counts the tokens of the response with its end token
(RLAIF-V, arXiv 2405.17220, section 3.4; the reward is that of DPO, arXiv 2305.18290, equation 5). Reads `prompts` and
`responses`, writes `rewards` (response_id, prompt_id, num_tokens, log_prob, reference_log_prob, reward). A response
that was cut at max_tokens has no end token and is dropped.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.inference.revision import pin_model
from rlaif.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from dpo.collator import Collator
    from rlaif.storage.run import Run
    from rlaif.storage.writer import TableWriter

PAIRS_PER_BATCH = 8  # the collator takes two answers per row
Row = dict[str, Any]


def rewards(config: Config, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    from rlaif.storage.run import Run  # heavy imports are deferred so that `--help` stays fast
    from rlaif.storage.tables import count_rows
    from rlaif.storage.writer import TableWriter

    if config.reference_policy is None:
        raise ConfigError(
            "reference_policy is not set; set it to the model that `policy` was aligned from, or use `make best-of-n`"
        )
    pinned = {"policy": pin_model(config.policy), "reference_policy": pin_model(config.reference_policy)}
    sections = {name: section for name, (section, _) in pinned.items()}
    run = Run(path, config.model_copy(update=sections), "rewards")  # what is recorded is what is opened
    settings = {
        "beta": beta_of(config),
        **{name: {**section.identity(), "revision": revision} for name, (section, revision) in pinned.items()},
    }
    if not run.begin(["rewards"], settings, inputs=["prompts", "responses"]):
        return
    run.announce(
        f"compares {config.policy.model} with {config.reference_policy.model}",
        f"on {count_rows(run, 'responses'):,} responses",
    )
    with TableWriter(run, "rewards", key="prompt_id") as writer:
        if not writer.path.is_file():
            write_rewards(run, writer)
    run.finish({"rewards": count_rows(run, "rewards")}, None)


def beta_of(config: Config) -> float:
    """The beta of the alignment: that of `dpo.trainer`, or TRL's default."""
    from dpo.arguments import trainer_arguments

    return trainer_arguments(config, Path("unused")).beta


def write_rewards(run: "Run[Config]", writer: "TableWriter") -> None:
    import torch

    from dpo.policy import load_collator, load_policy

    config = run.config
    assert config.reference_policy is not None
    device: Any = "cuda" if torch.cuda.is_available() else "cpu"
    policy, reference = (
        load_policy(section, trains=False).eval().to(device) for section in (config.policy, config.reference_policy)
    )
    collator = load_collator(config.policy, config.dpo, max_length=None)
    beta = beta_of(config)
    with progress_bar("rewards", "prompt", total=None) as bar:
        for prompt_id, rows in complete_responses(run):
            bar.update()
            if prompt_id in writer.done:
                continue
            columns = [column.tolist() for column in log_probs(policy, reference, collator, rows)]
            writer.write(
                {
                    "response_id": row["response_id"],
                    "prompt_id": prompt_id,
                    "num_tokens": length,
                    "log_prob": log_prob,
                    "reference_log_prob": reference_log_prob,
                    "reward": beta / length * (log_prob - reference_log_prob),
                }
                for row, length, log_prob, reference_log_prob in zip(rows, *columns, strict=True)
            )


def complete_responses(run: "Run[Config]") -> Iterator[tuple[str, list[Row]]]:
    """(prompt_id, complete responses) of each prompt, as rows for the collator; cut responses are dropped."""
    from rlaif.storage.tables import read_rows

    columns = ["prompt_id", "response_id", "text", "finish_reason", "num_tokens"]
    groups = groupby(read_rows(run, "responses", columns), key=lambda row: row["prompt_id"])
    prompts = {"split": run.config.generation.splits}
    responses = next(groups, None)
    for prompt in read_rows(run, "prompts", ["prompt_id", "image", "instruction"], prompts):
        if responses is None or responses[0] != prompt["prompt_id"]:
            continue  # it has no responses
        rows = []
        for row in responses[1]:
            if row["finish_reason"] != "stop":
                run.drop(row["response_id"], "response_truncated", f"{row['num_tokens']} tokens")
                continue
            prompt_messages = [{"role": "user", "content": prompt["instruction"]}]
            answer = [{"role": "assistant", "content": row["text"]}]
            rows.append({**row, "images": [prompt["image"]], "prompt": prompt_messages, "answer": answer})
        if rows:
            yield prompt["prompt_id"], rows
        responses = next(groups, None)


def log_probs(
    policy: "PreTrainedModel", reference: "PreTrainedModel", collator: "Collator", rows: Sequence[Row]
) -> "tuple[Tensor, Tensor, Tensor]":
    """The number of tokens [K] of each answer, with its end token, and its log-probabilities [K] under both models.

    The collator takes two answers per row; the last of an odd number is used twice.
    """
    import torch

    pairs = [(rows[index], rows[min(index + 1, len(rows) - 1)]) for index in range(0, len(rows), 2)]
    results = []
    for start in range(0, len(pairs), PAIRS_PER_BATCH):
        batch_pairs = pairs[start : start + PAIRS_PER_BATCH]
        batch = collator(
            [
                {
                    **{name: first[name] for name in ("images", "prompt")},
                    "chosen": first["answer"],
                    "rejected": second["answer"],
                }
                for first, second in batch_pairs
            ]
        )
        inputs = {
            name: value.to(policy.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
        }
        answers = inputs.pop("completion_mask")[:, 1:]  # [2B, T - 1]
        with torch.no_grad():
            columns = [
                torch.gather(
                    model(**inputs).logits[:, :-1].float().log_softmax(-1), 2, inputs["input_ids"][:, 1:, None]
                )[..., 0]
                for model in (policy, reference)
            ]
        counted = torch.stack([answers.sum(1), *((column * answers).sum(1) for column in columns)])  # [3, 2B]
        results.append(counted.view(3, 2, len(batch_pairs)).transpose(1, 2).reshape(3, -1))  # answers in order
    lengths, log_prob, reference_log_prob = torch.cat(results, dim=1)[:, : len(rows)].double().cpu()
    return lengths.long(), log_prob, reference_log_prob


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(Config, "dpo.rewards", "The DPO reward of each response, per token.", rewards, argv)


if __name__ == "__main__":
    sys.exit(main())
