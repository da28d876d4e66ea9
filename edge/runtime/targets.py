"""Machines that llama.cpp is compiled for, and the instruction sets that each build may use. Pure: nothing runs here.

ggml's own choice, GGML_NATIVE, reads CPU flags; a virtual machine may advertise what it traps, and such a build dies.
So a target names its instruction sets one by one, and `host` gets those that `edge.runtime.probes` has executed.
AMX is never chosen: laptops and phones have none.
"""

from collections.abc import Collection
from dataclasses import dataclass

from rlaif.errors import ConfigError

TARGETS = ("host", "portable", "avx2", "avx512", "aarch64")

# x86: in the order in which each needs those before it on the same line; the names are those of ggml's options
SSE42 = ("SSE42",)
AVX2 = (*SSE42, "AVX", "F16C", "FMA", "BMI2", "AVX2")
AVX512 = (*AVX2, "AVX512")
X86 = (*AVX512, "AVX_VNNI", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16")
# ARM: extensions of -march=armv8.2-a; phones since 2018 have the first two
ARM = ("dotprod", "fp16", "i8mm")
ARM_PHONES = ARM[:2]
NEEDS = {"AVX_VNNI": AVX2, "AVX512_VBMI": AVX512, "AVX512_VNNI": AVX512, "AVX512_BF16": AVX512}
MACHINES = {"x86_64": X86, "aarch64": ARM}


@dataclass(frozen=True)
class Target:
    """A build: its name, the machine as `uname -m` says it, the instruction sets that it may use."""

    name: str
    machine: str
    features: tuple[str, ...]


def make_target(name: str, machine: str, executed: Collection[str]) -> Target:
    """The target of a name, on a machine that executes these features.

    Errors: ConfigError for an unknown name, or a machine that the target is not for.
    """
    if name not in TARGETS:
        raise ConfigError(
            f"TARGET={name} is not a target; expected one of {', '.join(TARGETS)}; run `make edge-runtime TARGET=host`"
        )
    if machine not in MACHINES:
        raise ConfigError(
            f"this machine is {machine}; llama.cpp is compiled for {' and '.join(MACHINES)} here; use one of those"
        )
    if name == "aarch64":
        return Target(name, "aarch64", ARM_PHONES)
    if name in ("avx2", "avx512"):
        if machine != "x86_64":
            raise ConfigError(f"TARGET={name} is for x86_64, and this machine is {machine}; use TARGET=host")
        return Target(name, machine, AVX2 if name == "avx2" else AVX512)
    if name == "portable":
        return Target(name, machine, SSE42 if machine == "x86_64" else ())
    return Target(name, machine, usable(machine, executed))


def usable(machine: str, executed: Collection[str]) -> tuple[str, ...]:
    """The executed features, without those that need one that is missing."""
    order = MACHINES[machine]
    chain = {feature: order[:index] for index, feature in enumerate(order)} if machine == "x86_64" else {}
    kept: tuple[str, ...] = ()
    for feature in order:
        needed = NEEDS.get(feature, chain.get(feature, ()))
        if feature in executed and set(needed) <= set(kept):
            kept += (feature,)
    return kept


def definitions(target: Target) -> dict[str, str]:
    """CMake's definitions that allow exactly the target's instruction sets."""
    if target.machine == "x86_64":
        options = {f"GGML_{feature}": "ON" if feature in target.features else "OFF" for feature in X86}
        return {"GGML_NATIVE": "OFF", **options}
    base = "armv8.2-a" if target.features else "armv8-a"
    return {"GGML_NATIVE": "OFF", "GGML_CPU_ARM_ARCH": "+".join((base, *target.features))}


def is_executable(target: Target, machine: str, executed: Collection[str]) -> bool:
    """Whether the machine that executes these features can run the target's build."""
    return target.machine == machine and set(target.features) <= set(executed)
