"""The tokenizer with which vLLM serves MiniCPM-V: tokenizer mode `minicpmv`, which `model.vllm.plugin` registers."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from vllm.tokenizers.hf import get_cached_tokenizer

from model.processing import end_of_turn, prepare_tokenizer


class MiniCPMVTokenizer:
    """The checkpoint's tokenizer, in which tokens that are text are not special (see `model.processing`), and whose end
    token ends a turn, so that every answer stops there.
    """

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | Path,
        *args: Any,
        trust_remote_code: bool = False,
        download_dir: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """As vLLM calls it. Remote code is not needed and never run."""
        tokenizer: Any = AutoTokenizer.from_pretrained(
            path_or_repo_id, *args, trust_remote_code=False, cache_dir=download_dir, **kwargs
        )
        prepare_tokenizer(tokenizer)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))
        return get_cached_tokenizer(tokenizer)  # which fixes its special tokens
