"""The peak of what torch allocates while something runs."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_of(action: Callable[[], object]) -> int:
    """Bytes of torch's CPU allocator at their highest, over those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
