"""Makes every vLLM process know our MiniCPM-V: the entry point `vllm.general_plugins` calls `register`.

vLLM's native MiniCPM-V serves the model; only where its image processor comes from is ours, since the native class
takes it from remote code.
"""


def register() -> None:
    """Register with transformers' Auto classes and with vLLM; safe to call more than once."""
    import torch
    from vllm import ModelRegistry

    import model

    model.register()
    ModelRegistry.register_model("MiniCPMV", "model.vllm.model:MiniCPMVForVLLM")
    if not torch.backends.cuda.is_built():
        # vLLM's resampler asks whether a CUDA graph is being captured, and a torch without CUDA raises
        # instead of saying no.
        torch.cuda.is_current_stream_capturing = lambda: False
