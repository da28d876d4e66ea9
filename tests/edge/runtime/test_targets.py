"""Which instruction sets a target gets, and how CMake is told."""

import pytest

from edge.runtime.targets import MACHINES, TARGETS, Target, definitions, is_executable, make_target, usable
from rlaif.errors import ConfigError

OLD = ("SSE42", "AVX", "F16C", "FMA", "BMI2", "AVX2")


def test_the_host_gets_what_it_executes() -> None:
    target = make_target("host", "x86_64", {*OLD, "AVX512", "AVX512_VNNI"})
    assert target == Target("host", "x86_64", (*OLD, "AVX512", "AVX512_VNNI"))
    assert make_target("host", "aarch64", {"dotprod"}).features == ("dotprod",)


def test_named_targets_do_not_depend_on_the_machine() -> None:
    assert make_target("portable", "x86_64", OLD).features == ("SSE42",)
    assert make_target("portable", "aarch64", {"dotprod"}).features == ()
    assert make_target("avx2", "x86_64", ()).features == OLD
    assert make_target("avx512", "x86_64", ()).features == (*OLD, "AVX512")
    assert make_target("aarch64", "x86_64", OLD) == Target("aarch64", "aarch64", ("dotprod", "fp16"))


def test_a_feature_needs_those_before_it() -> None:
    """A machine without FMA gets no AVX2, and none of what builds on it; AVX-VNNI does not need AVX-512."""
    executed = {*OLD, "AVX512", "AVX_VNNI"}
    assert usable("x86_64", executed - {"FMA"}) == ("SSE42", "AVX", "F16C")
    assert usable("x86_64", executed - {"AVX512"}) == (*OLD, "AVX_VNNI")
    assert usable("x86_64", {"AVX2"}) == ()
    assert usable("aarch64", {"i8mm"}) == ("i8mm",)


def test_cmake_is_told_each_feature() -> None:
    options = definitions(Target("portable", "x86_64", ("SSE42",)))
    assert options.pop("GGML_NATIVE") == "OFF" and options.pop("GGML_SSE42") == "ON"
    assert options == {f"GGML_{name}": "OFF" for name in MACHINES["x86_64"] if name != "SSE42"}
    arm = definitions(Target("aarch64", "aarch64", ("dotprod", "fp16")))
    assert arm == {"GGML_NATIVE": "OFF", "GGML_CPU_ARM_ARCH": "armv8.2-a+dotprod+fp16"}
    assert definitions(Target("portable", "aarch64", ()))["GGML_CPU_ARM_ARCH"] == "armv8-a"


def test_what_a_machine_can_run() -> None:
    avx512 = make_target("avx512", "x86_64", ())
    assert is_executable(avx512, "x86_64", {*OLD, "AVX512", "AVX_VNNI"})
    assert not is_executable(avx512, "x86_64", OLD)
    assert not is_executable(make_target("aarch64", "x86_64", OLD), "x86_64", OLD)


@pytest.mark.parametrize(
    ("name", "machine", "message"),
    [
        (
            "fast",
            "x86_64",
            f"TARGET=fast is not a target; expected one of {', '.join(TARGETS)}; run `make edge-runtime",
        ),
        ("host", "riscv64", "this machine is riscv64; llama.cpp is compiled for x86_64 and aarch64 here; use one of"),
        ("avx2", "aarch64", "TARGET=avx2 is for x86_64, and this machine is aarch64; use TARGET=host"),
    ],
)
def test_what_cannot_be_a_target(name: str, machine: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        make_target(name, machine, ())
