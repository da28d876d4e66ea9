"""The tokenizer with which vLLM serves MiniCPM-V: tokenizer mode `minicpmv`, which `model.vllm.plugin` registers."""

from pathlib import Path
from typing import Any

from vllm.tokenizers.hf import CachedHfTokenizer, get_cached_tokenizer

from model.processing import end_of_turn, prepare_tokenizer


class MiniCPMVTokenizer(CachedHfTokenizer):
    """The checkpoint's tokenizer, in which tokens that are text are not special (see `model.processing`), and whose end
    token ends a turn, so that every answer stops there.
    """

    @classmethod
    def from_pretrained(cls, path_or_repo_id: str | Path, *args: Any, **kwargs: Any) -> Any:
        tokenizer: Any = super().from_pretrained(path_or_repo_id, *args, **kwargs)
        prepare_tokenizer(tokenizer)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))
        return get_cached_tokenizer(tokenizer)
