"""Useful arithmetic by hand, the profile of a piece of work, and the table of shares."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from bench import roofline
from bench.figures.results import read_result
from bench.limits.meter import Meter
from bench.limits.profile import ATTENTION, KERNELS, PRODUCTS, REST, SAMPLER, Operations, Profile, kind_of
from bench.limits.useful import (
    Counts,
    Times,
    Weights,
    batch_counts,
    image_counts,
    request_counts,
    shared_tokens,
    weights_of,
)
from bench.models import Load, pictures
from model import MiniCPMVConfig, MiniCPMVImageProcessor
from model.output_layer import OutputLayer
from model.vllm import private
from rlaif.inference.engine import Completion, Request


def test_weights_of_the_full_size_by_hand() -> None:
    weights = weights_of(MiniCPMVConfig())
    layer = 4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336  # queries, keys and values, output; the perceptron
    assert weights.language == 32 * layer and weights.head == 4096 * 128256
    assert weights.vision == 27 * (4 * 1152**2 + 2 * 1152 * 4304) + 3 * 14 * 14 * 1152
    assert weights.projection == 1152 * 4096
    assert weights.keys == 2 * 4096**2 and weights.queries == 96 * 3 * 4096**2


def test_operations_by_hand() -> None:
    weights = Weights(language=10, head=3, vision=5, projection=1, keys=2, queries=7)
    counts = Counts(tokens=4, logits=2, patches=6, slices=1) + Counts(tokens=1)
    assert weights.operations(counts) == 2 * (5 * 10 + 2 * 3 + 6 * 5 + 6 * 1 + 6 * 2 + 7)
    assert weights.operations(counts, Times(3, 0, 1, 2)) == 2 * (3 * 56 + 2 * 6 + 6 * 2 + 7)


def test_the_common_beginning_counts_once() -> None:
    assert shared_tokens([[1, 2, 3, 4], [1, 2, 5]]) == 2 + 2 + 1
    assert shared_tokens([[1, 2, 3]]) == 3
    assert shared_tokens([[1, 2], [1, 2]]) == 2


def test_requests_about_an_image_by_hand() -> None:
    """A prompt of 3 tokens, the marker of its image replaced by 10 tokens in place of 1; two answers of 4 and 2."""
    processor = SimpleNamespace(
        image_processor=MiniCPMVImageProcessor(scale_resolution=28, patch_size=14),
        encode_turn=lambda text, has_image: [0, 1, len(text)],
    )
    picture = pictures(Load(images=1, side=28))["0"]
    requests = [Request("a", picture, n=2), Request("bb", picture)]
    rows = [[Completion("", 4, "stop", prompt_tokens=12), Completion("", 2, "stop", prompt_tokens=12)]]
    rows.append([Completion("", 1, "stop", prompt_tokens=12)])
    prompts = 9 + 2 + 1 + 1  # the image, the common beginning, the rest of each
    assert request_counts(processor, requests, rows) == Counts(prompts + (4 + 2 + 1) - 3, 7, patches=4, slices=1)


def test_images_are_counted_by_their_patches() -> None:
    processor = MiniCPMVImageProcessor(scale_resolution=28, patch_size=14)
    assert image_counts(processor, [Image.new("RGB", (28, 28)), Image.new("RGB", (56, 28))]) == Counts(
        patches=4 + 3 + 2 * 4, slices=1 + 1 + 2
    )  # the overview of the second is 42 x 14


def test_padding_of_a_packed_batch_does_not_count() -> None:
    batch = {
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 0]]),
        "labels": torch.tensor([[-100, 5, 6, -100, 7, -100, -100]]),
        "tgt_sizes": torch.tensor([[2, 3], [1, 4]]),
    }
    assert batch_counts(batch) == Counts(tokens=5, logits=3, patches=10, slices=2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_C::onednn_mm", PRODUCTS),
        ("aten::addmm", PRODUCTS),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", ATTENTION),
        ("_C::cpu_attention_with_kv_cache", ATTENTION),
        ("_C::fused_gumbel_argmax", SAMPLER),
        ("aten::mul", KERNELS),
    ],
)
def test_kinds_of_operators(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_profile_sees_products_and_what_is_in_no_operator() -> None:
    matrix = torch.randn(300, 300)
    with Profile() as profile, Operations() as counted:
        for _ in range(20):
            matrix @ matrix
        sum(range(10**6))
    assert counted.products == counted.total == 20 * 2 * 300**3
    assert profile.by_kind[PRODUCTS] > 0 and profile.by_kind[REST] > 0
    assert sum(profile.by_kind.values()) == pytest.approx(profile.seconds, rel=0.01)


def test_linear_layers_in_inference_and_products_in_place_are_counted() -> None:
    rows, weights = torch.ones(5, 3), torch.ones(3, 2)
    with torch.inference_mode(), Operations() as counted:
        torch.nn.functional.linear(rows, weights.T)
        rows @ weights
        torch.zeros(5, 2).addmm_(rows, weights)
    assert counted.products == counted.total == 3 * 2 * 5 * 3 * 2


def test_both_passes_of_the_chunked_loss_are_counted() -> None:
    """Forward; backward the logits again, the gradient of the rows and that of the weights."""
    head, hidden = OutputLayer(4, 7), torch.ones(5, 4, requires_grad=True)
    with Operations() as counted:
        head(hidden, torch.zeros(5, dtype=torch.long)).sum().backward()
    assert counted.products == 4 * 2 * 5 * 4 * 7


def test_operations_of_a_step_by_hand() -> None:
    """Of 5 rows through 3 x 2 weights: forward 2 * 5 * 3 * 2, and as much for the gradient of the weights."""
    net = torch.nn.Linear(3, 2, bias=False)
    trainer = SimpleNamespace(add_callback=lambda callback: None)
    trainer.training_step = lambda model, inputs: model(inputs["x"]).sum().backward()
    meter = Meter(trainer, tokens=lambda batch: len(batch["x"]))  # type: ignore[arg-type]
    for step in (1, 2, 3, 4):
        trainer.training_step(net, {"x": torch.ones(5, 3)})
        meter.on_step_end(None, SimpleNamespace(global_step=step), None)
    assert (meter.tokens, meter.operations, meter.steps) == (5, 120, 2) and meter.seconds > 0
    assert meter.profile is not None and meter.profile.seconds > 0


def test_a_share_is_the_product_of_its_three_parts() -> None:
    with Profile() as profile:
        torch.randn(100, 100) @ torch.randn(100, 100)
    profile.by_kind |= {PRODUCTS: 0.5, ATTENTION: 0.3, REST: 0.2}
    profile.seconds = 1.0
    run = roofline.Run(useful=[20.0, 40.0, 30.0], product=[100.0, 100.0, 100.0], computed=1.25, profile=profile)
    share, _, _, part, speed, products, attention, *_ = run.cells()
    assert (share, part, products, attention) == ("30%", "80%", "50%", "30%") and speed == "75%"  # 0.8 * 0.5 * 0.75


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_every_work_has_a_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process, at a size at which the figures mean nothing."""
    monkeypatch.setattr(roofline, "run_isolated", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr(roofline, "matrix_rate", lambda dtype: 1e11)
    monkeypatch.setattr(private, "LARGEST_KEPT", private.LARGEST_KEPT)  # one work changes it
    small = roofline.Size(
        width=128, layers=1, verified=1, few=1, many=2, answers=2, answer_tokens=4, sequence=512, rows=24
    )
    roofline.compare(1, replace(small, side=300), tmp_path)
    (table,) = read_result("roofline", tmp_path).figures["tables"]
    assert [row[0] for row in table["rows"]] == list(roofline.WORK)
    for row in table["rows"]:
        cells = dict(zip(table["columns"], row, strict=True))
        assert float(cells["useful GFLOP/s"]) > 0
        assert 50 < int(cells["useful part of products"].rstrip("%")) <= 101, row[0]
        assert float(cells["share of the matrix rate"][:-1]) >= 0
