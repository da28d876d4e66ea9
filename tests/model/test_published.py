"""The published folder's tokenizer and configuration in each variant, and what plain transformers reads of a saved one.

Weights play no part here; `tests/pipeline/test_published.py` trains and serves them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from model import MiniCPMVConfig, MiniCPMVProcessor
from rlaif.config import ModelSection
from rlaif.storage.model_folder import READ_WHOLE, complete_model
from rlaif.storage.versions import PACKAGES
from tests.support.published.minicpmv import save_published
from tests.support.published.releases import END_OF_TURN, EOS, FIRST_SPECIAL, TOKENIZERS

pytestmark = pytest.mark.slow

# A program that has only transformers: our packages cannot be imported.
PLAIN = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OURS:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, GenerationConfig
options = {"trust_remote_code": True}
config = AutoConfig.from_pretrained(sys.argv[1], **options)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], **options)
processor = AutoProcessor.from_pretrained(sys.argv[1], **options)
print(json.dumps({
    "origins": [part.origin for part in (config, tokenizer, processor.image_processor)],
    "processor": type(processor).__module__.rpartition(".")[2],
    "version": config.version,
    "ends": GenerationConfig.from_pretrained(sys.argv[1]).eos_token_id,
    "text": tokenizer.decode([0, FIRST + 10, 0, FIRST + 9], skip_special_tokens=True),
    "special": tokenizer.encode("<image>!", add_special_tokens=False),
    "ids": tokenizer.encode("A red star!!", add_special_tokens=False),
}))
"""


def save_again(start: Path, folder: Path) -> MiniCPMVProcessor:
    """Save configuration and processor as a stage does."""
    processor: Any = MiniCPMVProcessor.from_pretrained(start)
    MiniCPMVConfig.from_pretrained(start).save_pretrained(folder)
    GenerationConfig.from_pretrained(start).save_pretrained(folder)
    processor.save_pretrained(folder)
    complete_model(folder, ModelSection(model=str(start)), processor.tokenizer, processor.end_of_turn)
    saved: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(folder)
    return saved


@pytest.mark.parametrize("variant", TOKENIZERS)
def test_every_variant_is_read_without_remote_code_and_saved_as_published(variant: str, tmp_path: Path) -> None:
    save_published(tmp_path / "start", variant, with_weights=False)
    messages = [{"role": "user", "content": "red!! <|eot_id|>"}, {"role": "assistant", "content": "A red circle!"}]
    published = MiniCPMVProcessor.from_pretrained(tmp_path / "start")
    ids = published.encode_chat(messages, add_generation_prompt=False)
    special = [token for token in ids if token >= FIRST_SPECIAL]
    turn = [FIRST_SPECIAL + 6, FIRST_SPECIAL + 7]
    assert special[:7] == [FIRST_SPECIAL, *turn, END_OF_TURN, *turn, END_OF_TURN]
    assert published.encode_answer("A!!")[-3:] == [0, 0, END_OF_TURN]
    saved = save_again(tmp_path / "start", tmp_path / "saved")
    assert saved.encode_chat(messages, add_generation_prompt=False) == ids
    assert saved.end_of_turn == END_OF_TURN
    ours, theirs = (json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("saved", "start"))
    assert ours["pad_token"] == "<|end_of_text|>" and ours["added_tokens_decoder"]["0"]["special"] is False
    if "auto_map" in theirs:
        theirs |= READ_WHOLE
    changed = {"pad_token", "added_tokens_decoder"}
    assert {key: ours[key] for key in ours.keys() - changed} == {key: theirs[key] for key in theirs.keys() - changed}


def test_a_token_that_the_release_pads_with_is_trained(tmp_path: Path) -> None:
    """torch gives the embedding of a configuration's pad_token_id no gradient; the release has none there."""
    save_published(tmp_path / "start", with_weights=False)
    assert MiniCPMVConfig.from_pretrained(tmp_path / "start").pad_token_id is None


def load_plainly(folder: Path, home: Path) -> Any:
    """What PLAIN prints about a model folder."""
    program = f"OURS, FIRST = {set(PACKAGES)!r}, {FIRST_SPECIAL}\n{PLAIN}"
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_plain_transformers_loads_what_is_saved_with_the_code_beside_it(tmp_path: Path) -> None:
    save_published(tmp_path / "start", code_raises=False, with_weights=False)
    processor = save_again(tmp_path / "start", tmp_path / "saved")
    ids = processor.encode_text("A red star!!")
    assert load_plainly(tmp_path / "start", tmp_path / "home")["ids"] != ids, "READ_WHOLE is not needed any more"
    assert load_plainly(tmp_path / "saved", tmp_path / "home") == {
        "origins": ["remote code"] * 3,
        "processor": "processing_minicpmv",
        "version": "2.5",
        "ends": [EOS, END_OF_TURN],
        "text": "!!",
        "special": [FIRST_SPECIAL + 10, 0],
        "ids": ids,
    }
