"""Registers our MiniCPM-V in every vLLM process: the entry point `vllm.general_plugins` calls `register`.

vLLM's native class takes its image processor from remote code; ours takes it from this package.
"""

TOKENIZER_MODE = "minicpmv"


def register() -> None:
    """Register with transformers' Auto classes and with vLLM; safe to call more than once."""
    from vllm import ModelRegistry

    import model
    from model.vllm.private import answer_whether_capturing, multiply_many_rows_by_torch, register_tokenizer_mode

    model.register()
    ModelRegistry.register_model("MiniCPMV", "model.vllm.model:MiniCPMVForVLLM")
    register_tokenizer_mode(TOKENIZER_MODE, "model.vllm.tokenizer", "MiniCPMVTokenizer")
    answer_whether_capturing()
    multiply_many_rows_by_torch()
