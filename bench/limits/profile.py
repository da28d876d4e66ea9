"""What the time of a piece of work goes to (matrix products, attention, sampler, other kernels), and its operations."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PRODUCTS, ATTENTION, SAMPLER, KERNELS, REST = "matrix products", "attention", "sampler", "other kernels", "the rest"
KINDS = (PRODUCTS, ATTENTION, SAMPLER, KERNELS, REST)

# names of operators without their namespace
_PRODUCTS = {
    "mm",
    "addmm",
    "addmm_",
    "bmm",
    "baddbmm",
    "onednn_mm",
    "_linear_cross_entropy_batch_chunked_no_reduction",
    "convolution",
    "mkldnn_convolution",
    "convolution_backward",
}
_ATTENTION = ("scaled_dot_product", "cpu_attention", "flex_attention", "flash_attn", "varlen_attn")
_SAMPLER = ("gumbel", "argmax", "multinomial", "topk", "sort", "log_softmax", "exponential")


def kind_of(operator: str) -> str:
    """The kind of an operator by its name, such as `aten::mm`."""
    name = operator.rpartition("::")[2]
    if name in _PRODUCTS:
        return PRODUCTS
    if any(part in name for part in _ATTENTION):
        return ATTENTION
    return SAMPLER if any(part in name for part in _SAMPLER) else KERNELS


class Profile:
    """Seconds of what runs inside of `with Profile() as profile`, all of it and by kind.

    On CPU the rest is what is in no operator: Python, slicing of images, waiting. On a GPU, kinds are the seconds of
    its kernels, and the rest is when it is idle.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.by_kind = dict.fromkeys(KINDS, 0.0)
        self._on_gpu = torch.cuda.is_available()
        self._profiler = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])])

    def __enter__(self) -> Self:
        self._profiler.__enter__()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start
        profiler = self._profiler
        del self._profiler  # what is left can be sent to another process
        profiler.__exit__(kind, error, trace)
        for event in profiler.key_averages():
            if event.device_type.name == "CPU":  # a kernel counts with the operator that starts it
                microseconds = event.self_device_time_total if self._on_gpu else event.self_cpu_time_total
                self.by_kind[kind_of(event.key)] += microseconds / 1e6
        self.by_kind[REST] = max(self.seconds - sum(self.by_kind.values()), 0.0)

    def share(self, kind: str) -> float:
        return self.by_kind[kind] / self.seconds


class Operations(TorchDispatchMode):
    """Counts operations inside of `with Operations() as counted`: products, of matrix products; total, of attention
    too, where torch knows them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and str(packet) not in _COUNTED:
            with self:  # in inference a linear layer arrives whole: count the products that it is made of
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        count = 0
        if packet in flop_registry:
            count = flop_registry[packet](*args, **kwargs, out_val=output)
        elif str(packet) in _COUNTED:
            count = _COUNTED[str(packet)](*args)
        self.total += count
        if kind_of(str(packet).replace(".", "::")) == PRODUCTS:
            self.products += count
        return output


# operations of what torch does not count, by name, from the arguments
_COUNTED: dict[str, Callable[..., int]] = {
    "_C.onednn_mm": lambda output, rows, *rest: 2 * output.numel() * rows.shape[-1],  # vLLM's
    "aten.addmm_": lambda output, rows, columns: 2 * output.numel() * rows.shape[-1],
    # the forward pass alone; the backward pass is made of operators that are counted
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction": lambda rows, weights, *rest: (
        2 * len(rows) * weights.numel()
    ),
}
