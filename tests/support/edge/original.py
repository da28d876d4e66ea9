"""Exports of the embedded models, and what the models themselves answer, for tests of edge/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.slices import Floats, Prompt
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.inference.engine import is_spelling_of
from scenes.source import SceneRow, scene_rows
from tests.support import ROOT

MAX_TOKENS = 48


def demo_config(model: str = "assets/policy") -> Config:
    return load_config(ROOT / "configs" / "demo.yaml", [f"policy.model={ROOT / model}"])


def scenes(count: int) -> list[SceneRow]:
    return list(scene_rows("test", count, seed=0))


@dataclass(frozen=True)
class Original:
    """What the model itself makes of a picture, in float32 with torch.

    features: [S, Q, D]. ids: without the end token. logits: [T, V] of each step, that of the end token too.
    """

    prompt: Prompt
    features: Floats
    ids: list[int]
    logits: Floats
    text: str


class OriginalModel:
    """A model of assets/, asked greedily."""

    def __init__(self, folder: Path) -> None:
        from tests.support.tiny import load_model

        self.model, self.processor = load_model(folder)

    def answer(self, picture: bytes | None, text: str) -> Original:
        import torch

        from edge.prompt import encode_prompt
        from model.image_processing import pack_slices

        prompt = encode_prompt(self.processor, picture, text)
        images: dict[str, Any] = {}
        if prompt.slices is not None:
            images["pixel_values"] = pack_slices([torch.from_numpy(strip) for strip in prompt.slices.strips])
            images["tgt_sizes"] = torch.from_numpy(prompt.slices.sizes)
        ids = torch.tensor([prompt.ids])
        with torch.no_grad():
            features = self.model.get_image_features(**images).numpy() if images else np.zeros((0, 0, 0), np.float32)
            written = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **images,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                eos_token_id=prompt.end_of_turn,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = written.sequences[0, ids.shape[1] :].tolist()
        tokens = [token for token in tokens if token != prompt.end_of_turn]
        logits = np.stack([step[0].numpy() for step in written.logits])
        return Original(prompt, features, tokens, logits, self.processor.tokenizer.decode(tokens))

    def probability(self, logits: Floats, word: str) -> float:
        """That the next token is a spelling of a word, from its logits [V]."""
        shares = np.exp(logits - logits.max())
        texts = self.processor.tokenizer.batch_decode([[token] for token in range(len(logits))])
        return float(sum(shares[i] for i, text in enumerate(texts) if is_spelling_of(text, word)) / shares.sum())
