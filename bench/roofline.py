"""Useful arithmetic over the rate of one large matrix product, and what takes the rest of the time.

    make bench NAME=roofline             # on CPU; writes docs/results/roofline.json, then `make figures`

Verifying claims, sampling ten answers an image of few images and of many at once, a step of DPO and one of packed SFT,
with 103M random weights in float32, each in a new process. What counts as useful is said in `bench.limits.useful`:
tokens x weights x 2, three times that where weights are trained; nothing that is padding or computed again. The product
is measured in the same process, with the same threads, before and after each repeat; a share is the median of the
repeats. Of a training, a repeat is a step, and all steps are one measurement. One more run, or step, is profiled, and
in another one operations are counted:

    share = useful part of the products' operations x share of time in products x their rate over that of the large one
"""

import io
import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.comparisons import dpo
from bench.figures.results import RESULTS, ResultFile, write_result
from bench.figures.tables import markdown_table
from bench.isolated import run_isolated
from bench.limits.meter import UNTIMED, clock, matrix_rate
from bench.limits.profile import KINDS, PRODUCTS, Operations, Profile
from bench.limits.useful import Times, pair_counts, request_counts, weights_of
from bench.models import Load, pictures, save_model
from bench.record import commit
from bench.result import machine
from bench.work import Packed, sampling, train_stage, verifying, write_rows
from model import MiniCPMVConfig
from model.vllm import private

COMMAND = "make bench NAME=roofline"
VERIFYING, SAMPLING_FEW, SAMPLING_MANY = "verifying", "sampling, 30 answers at once", "sampling, 160 answers at once"
SAMPLING_BEFORE = f"{SAMPLING_MANY}, with a KV cache of 1 GiB and all products by oneDNN"


@dataclass(frozen=True)
class Size:
    """Model and work. verified, few, many: images, whose answers are decoded at the same time; pairs: of a step of DPO;
    sequence: tokens of each of two packed sequences; rows: of SFT.
    """

    width: int = 768
    layers: int = 12
    verified: int = 2
    few: int = 3
    many: int = 16
    answers: int = 10
    answer_tokens: int = 64
    pairs: int = 2
    sequence: int = 1024
    rows: int = 40
    side: int = 800

    @property
    def load(self) -> Load:
        return Load(images=max(self.verified, self.many), width=self.width, layers=self.layers, side=self.side)

    def dpo(self, steps: int) -> dpo.Load:
        images = self.load
        return dpo.Load(
            side=self.side,
            width=self.width,
            layers=self.layers,
            resolution=images.resolution,
            queries=images.queries,
            vision_layers=4,
            batch=self.pairs,
            steps=steps,
        )


@dataclass(frozen=True)
class Run:
    """useful, product: operations per second, of each repeat; computed: operations of matrix products for each useful
    one.
    """

    useful: list[float]
    product: list[float]
    computed: float
    profile: Profile

    @property
    def share(self) -> float:
        return statistics.median(mine / best for mine, best in zip(self.useful, self.product, strict=True))

    def cells(self) -> list[str]:
        """Its cells in the table."""
        product = statistics.median(self.product)
        in_products = self.profile.share(PRODUCTS)
        speed = self.share * self.computed / in_products if in_products else 0.0
        cells = [f"{self.share:.0%}", f"{statistics.median(self.useful) / 1e9:,.1f}", f"{product / 1e9:,.1f}"]
        cells += [f"{1 / self.computed:.0%}", f"{speed:.0%}"]
        return [*cells, *(f"{self.profile.share(kind):.0%}" for kind in KINDS)]


COLUMNS = ["work", "share of the matrix rate", "useful GFLOP/s", "one large product GFLOP/s"]
COLUMNS += ["useful part of products", "speed of products", *(f"time: {kind}" for kind in KINDS)]


def engine_run(what: str, folder: Path, size: Size, repeats: int) -> Run:
    """Verifying or sampling through the engine, as the stages do; call it in a new process."""
    from model import MiniCPMVProcessor
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import VllmEngine

    model = str(folder / "model")
    weights = weights_of(MiniCPMVConfig.from_pretrained(model))
    processor = MiniCPMVProcessor.from_pretrained(model)
    images = list(pictures(size.load).values())
    if what == VERIFYING:
        requests = verifying(images[: size.verified])
    else:
        count = size.few if what == SAMPLING_FEW else size.many
        requests = sampling(images[:count], size.answers, size.answer_tokens)
    rates, products = [], []
    section = EngineSection(max_model_len=2048, kv_cache_gib=4)
    if what == SAMPLING_BEFORE:
        section = section.model_copy(update={"kv_cache_gib": 1})
        private.LARGEST_KEPT = 0
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        engine = VllmEngine(ModelSection(model=model, dtype="float32"), section, 0)
        with closing(engine):
            engine.generate(requests[:1])
            useful = 0.0
            for _ in range(repeats):
                private.forget_prompts(engine._llm)
                before = matrix_rate(torch.float32)
                start = clock()
                rows = engine.generate(requests)
                seconds = clock() - start
                useful = weights.operations(request_counts(processor, requests, rows))
                rates.append(useful / seconds)
                products.append((before + matrix_rate(torch.float32)) / 2)
            private.forget_prompts(engine._llm)
            with Profile() as profile:
                engine.generate(requests)
            private.forget_prompts(engine._llm)
            with Operations() as counted:  # not while it is profiled: each operator takes longer
                engine.generate(requests)
    return Run(rates, products, counted.products / useful, profile)


def dpo_run(what: str, folder: Path, size: Size, repeats: int) -> Run:
    """Steps of `DPO, full` as in `make bench NAME=dpo_full`, all parts on; call it in a new process."""
    from model import MiniCPMVProcessor

    steps = UNTIMED + repeats
    weights = weights_of(MiniCPMVConfig.from_pretrained(str(folder / "model")))
    rows = dpo.pairs(size.dpo(steps), random.Random(0))
    counts = pair_counts(MiniCPMVProcessor.from_pretrained(str(folder / "model")), rows)
    before = matrix_rate(torch.float32)
    measured = dpo.train(dpo.OURS, folder, size.dpo(steps), "full")
    product = (before + matrix_rate(torch.float32)) / 2
    # the frozen encoder and the reference are computed once for all epochs
    once = 1 / dpo.EPOCHS
    useful = weights.operations(counts, Times(3 + once, once, 3 + once, 2 + once)) / steps
    in_step = weights.operations(counts, Times(3, 0, 3, 2)) / steps
    assert measured.profile is not None
    return Run([useful * measured.rate], [product], measured.products / in_step, measured.profile)


def sft_run(what: str, folder: Path, size: Size, repeats: int) -> Run:
    """Steps of `SFT, packed`: all parameters; call it in a new process."""
    weights = weights_of(MiniCPMVConfig.from_pretrained(str(folder / "model")))
    write_rows(size.rows, size.side // 5, folder / "rows.parquet")
    packed = Packed(size.sequence, 2, UNTIMED + repeats)
    before = matrix_rate(torch.float32)
    meter, steps = train_stage("sft-2", folder / "model", folder / "rows.parquet", folder / "sft", packed)
    product = (before + matrix_rate(torch.float32)) / 2
    useful = [weights.operations(counts, Times(3, 3, 3, 3)) for counts in steps]
    assert meter.profile is not None and meter.counted is not None
    computed = meter.counted.products / useful[0]
    return Run([sum(useful[UNTIMED:]) / meter.seconds], [product], computed, meter.profile)


WORK: dict[str, Callable[[str, Path, Size, int], Run]] = {
    VERIFYING: engine_run,
    SAMPLING_FEW: engine_run,
    SAMPLING_MANY: engine_run,
    SAMPLING_BEFORE: engine_run,
    "DPO, full": dpo_run,
    "SFT, packed": sft_run,
}


def measure(size: Size, repeats: int) -> dict[str, Run]:
    """Every kind of work, each in a new process."""
    runs = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        load = size.load
        parameters = save_model(folder / "model", size.width, size.layers, load.resolution, load.queries)
        print(f"{parameters:,} parameters", flush=True)
        for name, work in WORK.items():
            runs[name] = run_isolated(work, name, folder, size, repeats)
            print(f"{name}: {runs[name].share:.1%} of {statistics.median(runs[name].product) / 1e9:.1f} GFLOP/s")
    return runs


def compare(repeats: int, size: Size | None = None, folder: Path = RESULTS) -> None:
    """Measure, print the table and record it. On a machine with a GPU only `make bench-full-size` tells something."""
    if torch.cuda.is_available():
        print("roofline measures on CPU; on a GPU run `make bench-full-size`")
        return
    runs = measure(size or Size(), repeats)
    rows = [[name, *run.cells()] for name, run in runs.items()]
    print(markdown_table(COLUMNS, rows))
    result = ResultFile(
        title="Useful arithmetic over the rate of one large matrix product",
        command=COMMAND,
        date=datetime.now(UTC).date().isoformat(),
        commit=commit(),
        machine=machine(),
        note=f"{torch.get_num_threads()} threads, {repeats} repeats",
        figures={"tables": [{"columns": COLUMNS, "rows": rows}]},
    )
    write_result(result, folder / "roofline.json")
