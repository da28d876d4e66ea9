"""The resampler written for heads of 128 in another width: the same features, or a refusal."""

from typing import Any

import pytest
import torch

from edge.gguf.resampler import coordinates, correct_positions, fit_resampler, waves
from model.resampler import Resampler
from rlaif.errors import ModelError


def random_resampler(width: int, queries: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    module: Any = Resampler(queries, width, 48)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2)
    return dict(module.state_dict())


def test_widths_that_fit_stay_as_they_are() -> None:
    tensors = random_resampler(256)
    fitted = fit_resampler(tensors, 256, 8)
    assert fitted.score_error == 0 and set(fitted.tensors) - set(tensors) == {
        f"attn.{name}.{kind}" for name in "qkv" for kind in ("weight", "bias")
    }
    joined = torch.cat([fitted.tensors[f"attn.{name}.weight"] for name in "qkv"])
    assert torch.equal(joined, tensors["attn.in_proj_weight"])
    assert torch.equal(fitted.tensors["kv_proj.weight"], tensors["kv_proj.weight"])


def test_values_stand_where_their_frequency_is_added_or_leave_the_highest_free() -> None:
    kept, free = coordinates(8, 16)  # quarters of 2 in quarters of 4
    assert kept.tolist() == [0, 2, 4, 6, 8, 10, 12, 14] and free.tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert torch.equal(waves(8, 5), waves(16, 5)[:, kept[:4]])
    kept, free = coordinates(12, 16)  # quarters of 3 in quarters of 4
    assert kept.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15] and free.tolist() == [0, 4, 8, 12]


def test_positions_of_another_width_are_corrected() -> None:
    torch.manual_seed(0)
    keys = torch.randn(3, 192, dtype=torch.float64)
    weights, constant, errors = correct_positions(keys, 256, 18)
    assert weights.shape == (3, 64) and constant.shape == (3,) and [error.shape for error in errors] == [(3, 18)] * 2
    assert max(float(error.abs().max()) for error in errors) < 1e-4
    kept, free = coordinates(192, 256)
    ours = torch.cat([waves(192, 18)[5], waves(192, 18)[11]])  # column 5, row 11
    theirs = torch.cat([waves(256, 18)[5], waves(256, 18)[11]])
    given = theirs[kept] @ keys.T + theirs[free] @ weights.T
    assert torch.allclose(given + constant, keys @ ours, atol=1e-4)
    assert not torch.allclose(theirs[kept] @ keys.T, keys @ ours, atol=0.5)


@pytest.mark.parametrize(
    ("width", "queries", "padded", "reason"),
    [
        (192, 200, 256, r"1 heads of 192 and 200 queries, which do not fit"),
        (448, 8, 512, r"3 heads of 149 and 8 queries, which do not fit into 4 heads of 128"),
    ],
)
def test_heads_that_do_not_fit_are_refused(width: int, queries: int, padded: int, reason: str) -> None:
    tensors = random_resampler(192, queries)
    if width != 192:  # torch has no such attention, a file may
        tensors = {name: torch.zeros([width if n == 192 else 3 * width if n == 576 else n for n in tensor.shape])
                   for name, tensor in tensors.items()}  # fmt: skip
    with pytest.raises(ModelError, match=reason):
        fit_resampler(tensors, padded, 8)


def test_positions_that_cannot_be_corrected_are_refused() -> None:
    with pytest.raises(ModelError, match=r"width 192 change scores by up to .* at most 0.001 is accepted; train"):
        fit_resampler(random_resampler(192), 256, 400)
