"""The remote `.py` files of a published folder: they raise when executed, or are stand-ins that other programs load.

A stand-in has of the released class what transformers and vLLM need. That of the image processor is our own, which cuts
images as published.
"""

from pathlib import Path

import model
from tests.support.published.releases import Release

RAISES = "raise RuntimeError('remote code was executed')\n"
IMPORTS = "import transformers\nfrom transformers import processing_utils\n"
ORIGIN = "ORIGIN = 'remote code'\n"
LANGUAGE_MODEL = {"2.5": "Llama", "2.6": "Qwen2"}
STAND_INS = {
    "MiniCPMVConfig": """
class MiniCPMVConfig(transformers.{language_model}Config):
    origin = ORIGIN
    model_type = 'minicpmv'
    def __init__(self, vision_config=None, **kwargs):
        self.vision_config = transformers.Idefics2VisionConfig(**vision_config) if vision_config else None
        super().__init__(**kwargs)
""",
    "MiniCPMV": """
class MiniCPMV(transformers.{language_model}ForCausalLM):
    origin = ORIGIN
""",
    "MiniCPMVProcessor": """
class MiniCPMVProcessor(processing_utils.ProcessorMixin):
    attributes = ['image_processor', 'tokenizer']
    image_processor_class = 'AutoImageProcessor'
    tokenizer_class = 'AutoTokenizer'
    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer)
""",
    "PreTrainedTokenizerFastWrapper": """
class PreTrainedTokenizerFastWrapper(transformers.PreTrainedTokenizerFast):
    origin = ORIGIN
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.eot_token = '<|eot_id|>'
""",
    "MiniCPMVTokenizerFast": """
class MiniCPMVTokenizerFast(transformers.Qwen2TokenizerFast):
    origin = ORIGIN
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.im_start = '<image>'
""",
}


def write_code(folder: Path, release: Release, raises: bool) -> None:
    """Write the files, those that raise or the stand-ins."""
    for name, classes in release.code.items():
        (folder / f"{name}.py").write_text(RAISES if raises else stand_in(name, classes, release), encoding="utf-8")
    if not raises:
        (folder / "slicing.py").write_text(source("slicing"), encoding="utf-8")


def stand_in(name: str, classes: tuple[str, ...], release: Release) -> str:
    if name == "image_processing_minicpmv":
        ours = source("image_processing").replace("from model.slicing", "from .slicing")
        return f"{ours}\nMiniCPMVImageProcessor.origin = 'remote code'\n"
    origin = "from .resampler import ORIGIN\n" if name == "modeling_minicpmv" else ORIGIN
    language_model = LANGUAGE_MODEL[release.version]
    return IMPORTS + origin + "".join(STAND_INS[kind].format(language_model=language_model) for kind in classes)


def source(module: str) -> str:
    return (Path(model.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
