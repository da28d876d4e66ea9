"""The resampler in the shape that llama.cpp computes: heads of 128, and as wide as the padded language model.

Released widths are multiples of 128 and of a block, so nothing changes there. Where the language model is padded (see
`edge.gguf.language`), the same function is written in the wider shape:

- **LayerNorm.** Its input is centred beforehand, by the linear layer before it, so that zeros may follow it; the input
  times sqrt(padded / width) has the old variance, and the norm's weight is divided by that.
- **Heads wider than 128.** The queries are fixed, so the scores of a head use no more dimensions than there are
  queries: queries and keys are projected onto that space. Values are split over several heads with equal scores.
- **Positions.** llama.cpp adds sines and cosines whose frequencies depend on the width. Where they do not contain ours,
  the coordinates that hold no value correct the scores: their weights are fitted by least squares over all patches of a
  row, and so are those of columns. A constant goes into the bias of the keys, where softmax does not see it.

All of it is computed in float64.
"""

import math
from dataclasses import dataclass

import torch

from model.resampler import HEAD_WIDTH, LAYER_NORM_EPS
from rlaif.errors import ModelError

MOST_SCORE_ERROR = 1e-3  # of a score, before softmax
SMALLEST_SINGULAR = 1e-7  # of the fit, relative to the largest: keeps its weights small

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class FittedResampler:
    """Tensors named as in `model.resampler.Resampler`, with q, k and v apart.

    score_error: the largest difference of a score that the positions cause, for slices of up to `side` patches a side.
    """

    tensors: Tensors
    score_error: float
    side: int


def split_projections(tensors: Tensors) -> Tensors:
    """in_proj of the attention as attn.{q,k,v}.{weight,bias}; the other tensors as they are."""
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("attn.in_proj")}
    for kind in ("weight", "bias"):
        for name, part in zip("qkv", tensors[f"attn.in_proj_{kind}"].chunk(3), strict=True):
            others[f"attn.{name}.{kind}"] = part
    return others


def fit_resampler(tensors: Tensors, padded: int, side: int) -> FittedResampler:
    """tensors: those of a Resampler of width D -> the same function for heads of 128 in the width `padded`.

    Features [S, Q, padded] are the old ones, then zeros. side: patches a side up to which positions are fitted.
    Errors: ModelError: that is not possible, or not exact enough.
    """
    width = tensors["proj"].shape[0]
    if padded == width and width % HEAD_WIDTH == 0:
        return FittedResampler(split_projections(tensors), 0.0, side)
    old = {name: tensor.double() for name, tensor in split_projections(tensors).items()}
    num_queries, heads = old["query"].shape[0], max(width // HEAD_WIDTH, 1)
    head_width = width // heads
    parts = -(-head_width // HEAD_WIDTH)  # heads of 128 for one of ours
    if heads * parts * HEAD_WIDTH > padded or (parts > 1 and num_queries > HEAD_WIDTH):
        raise ModelError(
            f"the resampler has {heads} heads of {head_width} and {num_queries} queries, which do not fit into "
            f"{padded // HEAD_WIDTH} heads of {HEAD_WIDTH}, all that llama.cpp has at the width {padded}; train a "
            f"model whose width is a multiple of {HEAD_WIDTH}, or use `make edge-answer`, which needs no mmproj"
        )
    kept, free = coordinates(width, padded)
    first = torch.arange(width)
    grow = math.sqrt(padded / width)
    centring = torch.eye(width, dtype=torch.float64) - 1 / width
    normed = torch.nn.functional.layer_norm(
        old["query"], (width,), old["ln_q.weight"], old["ln_q.bias"], LAYER_NORM_EPS
    )

    new: Tensors = {
        "query": place(grow * old["query"] @ centring, 1, first, padded),
        "kv_proj.weight": place(grow * centring @ old["kv_proj.weight"], 0, kept, padded),
        "proj": place(place(old["proj"], 0, first, padded), 1, first, padded),
    }
    for norm, places in (("ln_q", first), ("ln_kv", kept), ("ln_post", first)):
        new[f"{norm}.weight"] = place(old[f"{norm}.weight"] / grow, 0, places, padded)
        new[f"{norm}.bias"] = place(old[f"{norm}.bias"], 0, places, padded)
    for name in "qkv":
        new[f"attn.{name}.weight"] = torch.zeros(padded, padded, dtype=torch.float64)
        new[f"attn.{name}.bias"] = torch.zeros(padded, dtype=torch.float64)
    out = torch.zeros(width, padded, dtype=torch.float64)
    worst = 0.0
    for head in range(heads):
        rows = slice(head * head_width, (head + 1) * head_width)
        query = normed @ old["attn.q.weight"][rows].T + old["attn.q.bias"][rows]  # [Q, head_width]
        basis = torch.eye(head_width, dtype=torch.float64)
        if parts > 1:
            basis = torch.linalg.svd(query, full_matrices=False).Vh  # [Q, head_width], a basis of the queries
        keys = basis @ old["attn.k.weight"][rows]
        correction, constant, errors = correct_positions(keys, padded, side)
        scores = query @ basis.T / math.sqrt(head_width)
        worst = max(worst, sum(float((scores @ error).abs().max()) for error in errors))
        scale = math.sqrt(HEAD_WIDTH / head_width)  # llama.cpp divides by sqrt(128)
        key_weight = place(keys, 1, kept, padded)
        key_weight[:, free] = correction
        for part in range(parts):
            start = (head * parts + part) * HEAD_WIDTH
            slot = slice(start, start + len(basis))
            new["attn.q.weight"][slot] = scale * place(basis @ old["attn.q.weight"][rows], 1, first, padded)
            new["attn.q.bias"][slot] = scale * basis @ old["attn.q.bias"][rows]
            new["attn.k.weight"][slot] = key_weight
            new["attn.k.bias"][slot] = basis @ old["attn.k.bias"][rows] + constant
            values = torch.arange(rows.start, rows.stop)[part * HEAD_WIDTH : (part + 1) * HEAD_WIDTH]
            slot = slice(start, start + len(values))
            new["attn.v.weight"][slot] = place(old["attn.v.weight"][values], 1, kept, padded)
            new["attn.v.bias"][slot] = old["attn.v.bias"][values]
            out[:, slot] = old["attn.out_proj.weight"][:, values]
    new["attn.out_proj.weight"] = place(grow * centring @ out, 0, first, padded)
    new["attn.out_proj.bias"] = place(grow * centring @ old["attn.out_proj.bias"], 0, first, padded)
    if worst > MOST_SCORE_ERROR:
        raise ModelError(
            f"the resampler's positions of width {width} change scores by up to {worst:.1g} in llama.cpp at the width "
            f"{padded}, at most {MOST_SCORE_ERROR:g} is accepted; train a model of width {padded}, or export without "
            "mmproj"
        )
    return FittedResampler({name: tensor.float() for name, tensor in new.items()}, worst, side)


def place(tensor: torch.Tensor, dim: int, coordinates: torch.Tensor, length: int) -> torch.Tensor:
    """The tensor with its entries along `dim` at these coordinates of `length`, zeros elsewhere."""
    shape = [*tensor.shape]
    shape[dim] = length
    return torch.zeros(shape, dtype=tensor.dtype).index_copy_(dim, coordinates, tensor)


def coordinates(width: int, padded: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the values [D] are among the padded ones, quarter by quarter as the positions are, and the other places.

    Where `padded` is a multiple of the width, each is where llama.cpp adds the frequency of ours. Otherwise the places
    of the highest frequencies stay free: they are the ones that a correction needs.
    """
    quarter, padded_quarter = width // 4, padded // 4
    index = torch.arange(quarter)
    index = index * (padded // width) if padded % width == 0 else index + padded_quarter - quarter
    kept = torch.cat([index + start for start in range(0, padded, padded_quarter)])
    return kept, torch.tensor(sorted(set(range(padded)) - set(kept.tolist())))


def waves(width: int, side: int) -> torch.Tensor:
    """[sin | cos] of positions 0 to side - 1 of one axis in a width: [side, width / 2]."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def correct_positions(
    keys: torch.Tensor, padded: int, side: int
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """keys [R, D]: projection of the keys, which reads our positions and must read those of llama.cpp.

    Returns:
        the weights of the free coordinates [R, padded - D], a constant [R] for the bias, and what is left of the
        difference for columns and for rows, each [R, side].
    """
    width = keys.shape[1]
    kept, free = coordinates(width, padded)
    ours, theirs = waves(width, side), waves(padded, side)
    correction = torch.zeros(len(keys), len(free), dtype=torch.float64)
    constant = torch.zeros(len(keys), dtype=torch.float64)
    errors = []
    for start in (0, 1):  # columns come first
        half = slice(start * width // 2, (start + 1) * width // 2)
        own = kept[half] - start * padded // 2
        among_free = (free >= start * padded // 2) & (free < (start + 1) * padded // 2)
        difference = (ours - theirs[:, own]) @ keys[:, half].T  # [side, R]
        basis = torch.cat([theirs[:, free[among_free] - start * padded // 2], torch.ones(side, 1).double()], dim=1)
        weights = torch.linalg.lstsq(basis, difference, rcond=SMALLEST_SINGULAR, driver="gelsd").solution
        correction[:, among_free] = weights[:-1].T
        constant += weights[-1]
        errors.append((basis @ weights - difference).T)
    return correction, constant, errors
