"""Which instruction sets a machine executes: a small program for each is compiled, run, and its result compared.

CPU flags are not read: what a hypervisor advertises may still be trapped, and what it hides may work.
"""

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.runtime.targets import MACHINES

SECONDS = 60  # for one program, under an emulator too

# feature -> flags of the compiler, and the body of main. Inputs are volatile, so that nothing is computed beforehand.
X86_PROGRAMS: dict[str, tuple[str, str]] = {
    "SSE42": (
        "-msse4.2",
        "volatile long long a = 3, b = 2; __m128i r = _mm_cmpgt_epi64(_mm_set1_epi64x(a), _mm_set1_epi64x(b));"
        "return _mm_cvtsi128_si64(r) != -1;",
    ),
    "AVX": (
        "-mavx",
        "volatile float a = 1, b = 2; float r[8]; _mm256_storeu_ps(r, _mm256_add_ps(_mm256_set1_ps(a), "
        "_mm256_set1_ps(b))); return r[7] != 3;",
    ),
    "F16C": (
        "-mavx -mf16c",
        "volatile short a = 0x4200; float r[8]; _mm256_storeu_ps(r, _mm256_cvtph_ps(_mm_set1_epi16(a)));"
        "return r[7] != 3;",
    ),
    "FMA": (
        "-mavx -mfma",
        "volatile float a = 2; float r[8]; __m256 v = _mm256_set1_ps(a); _mm256_storeu_ps(r, "
        "_mm256_fmadd_ps(v, v, v)); return r[7] != 6;",
    ),
    "BMI2": ("-mbmi2", "volatile unsigned long long a = 0xF0; return _pext_u64(a, a) != 15;"),
    "AVX2": (
        "-mavx2",
        "volatile int a = 3; int r[8]; __m256i v = _mm256_set1_epi32(a); _mm256_storeu_si256((__m256i *) r, "
        "_mm256_mullo_epi32(v, v)); return r[7] != 9;",
    ),
    "AVX512": (
        "-mavx512f -mavx512cd -mavx512vl -mavx512dq -mavx512bw",
        "volatile char a = 2; long long r[8]; __m512i v = _mm512_add_epi8(_mm512_set1_epi8(a), _mm512_set1_epi8(a));"
        "v = _mm512_mullo_epi64(_mm512_conflict_epi32(v), v); _mm512_storeu_si512(r, v);"
        "__m256i w = _mm256_abs_epi64(_mm256_set1_epi64x(-(long long) a)); long long s[4];"
        "_mm256_storeu_si256((__m256i *) s, w);"
        # lane 0 conflicts with none, lane 1 with lane 0: (1 << 32) * 0x0404040404040404 keeps the low half, shifted
        "return r[0] != 0x0404040400000000LL || s[3] != 2;",
    ),
    "AVX_VNNI": (
        "-mavx2 -mavxvnni",
        "volatile char a = 2; int r[8]; __m256i v = _mm256_set1_epi8(a); _mm256_storeu_si256((__m256i *) r, "
        "_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), v, v)); return r[7] != 16;",
    ),
    "AVX512_VBMI": (
        "-mavx512f -mavx512bw -mavx512vbmi",
        "volatile char a = 3; char r[64]; __m512i v = _mm512_set1_epi8(a); _mm512_storeu_si512(r, "
        "_mm512_permutexvar_epi8(v, v)); return r[63] != 3;",
    ),
    "AVX512_VNNI": (
        "-mavx512f -mavx512vnni",
        "volatile char a = 2; int r[16]; __m512i v = _mm512_set1_epi8(a); _mm512_storeu_si512(r, "
        "_mm512_dpbusd_epi32(_mm512_setzero_si512(), v, v)); return r[15] != 16;",
    ),
    "AVX512_BF16": (
        "-mavx512f -mavx512vl -mavx512bf16",
        "volatile float a = 2; float r[16]; __m512 v = _mm512_set1_ps(a); __m512bh h = _mm512_cvtne2ps_pbh(v, v);"
        "_mm512_storeu_ps(r, _mm512_dpbf16_ps(v, h, h)); return r[15] != 10;",
    ),
}
ARM_PROGRAMS: dict[str, tuple[str, str]] = {
    "dotprod": (
        "-march=armv8.2-a+dotprod",
        "volatile signed char a = 2; int8x16_t v = vdupq_n_s8(a); return vgetq_lane_s32(vdotq_s32(vdupq_n_s32(1), v, v)"
        ", 3) != 17;",
    ),
    "fp16": (
        "-march=armv8.2-a+fp16",
        "volatile float a = 2; float16x8_t v = vdupq_n_f16((float16_t) a); return (float) vgetq_lane_f16("
        "vmulq_f16(v, v), 7) != 4;",
    ),
    "i8mm": (
        "-march=armv8.2-a+i8mm",
        "volatile signed char a = 2; int8x16_t v = vdupq_n_s8(a); return vgetq_lane_s32(vmmlaq_s32(vdupq_n_s32(1), v, v"
        "), 3) != 33;",
    ),
}
PROGRAMS = {"x86_64": X86_PROGRAMS, "aarch64": ARM_PROGRAMS}
HEADERS = {"x86_64": "immintrin.h", "aarch64": "arm_neon.h"}


@dataclass(frozen=True)
class Probe:
    """Whether a feature is executed; else why not."""

    feature: str
    executed: bool
    reason: str


def run_probes(machine: str, compiler: str, folder: Path, runner: Sequence[str] = ()) -> list[Probe]:
    """Every feature of a machine, tried in `folder`. runner: an emulator for another machine than this one."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_run_probe(feature, machine, compiler, folder, runner) for feature in MACHINES[machine]]


def _run_probe(feature: str, machine: str, compiler: str, folder: Path, runner: Sequence[str]) -> Probe:
    flags, body = PROGRAMS[machine][feature]
    source, program = folder / f"{feature}.c", folder / feature
    source.write_text(f"#include <{HEADERS[machine]}>\nint main(void) {{ {body} }}\n", encoding="utf-8")
    command = [compiler, "-O1", *flags.split(), str(source), "-o", str(program)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        return Probe(feature, False, "the compiler does not know it")
    try:
        status = subprocess.run([*runner, str(program.resolve())], capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return Probe(feature, False, f"no result after {SECONDS} s")
    return Probe(feature, status == 0, describe(status))


def describe(status: int) -> str:
    """The exit status of a probe in words: 0 is right, negative a signal (emulators report 128 + signal)."""
    if status == 0:
        return "executed"
    number = -status if status < 0 else status - 128
    if number == signal.SIGILL:
        return "illegal instruction"
    if number > 0:
        return f"ended by {signal.Signals(number).name}"
    return "executed, with a wrong result"
