"""The vision encoder and the resampler of a policy for devices, as ONNX for CPUs and NPUs, and what runs them."""
