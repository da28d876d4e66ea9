"""The models that training has written, as the commands of the recipe take them."""

from collections.abc import Sequence
from pathlib import Path

from rlaif.errors import InputError
from rlaif.inference.revision import model_files


def trained_models(folders: Sequence[Path]) -> dict[str, Path]:
    """The name of each folder, which is a training run or a model -> its model folder.

    Errors: InputError if two folders have one name; ModelError if one has no model.
    """
    names = [folder.absolute().name for folder in folders]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"several folders are named {', '.join(repeated)}; give folders of different names")
    models = [folder / "model" if (folder / "model").is_dir() else folder for folder in folders]
    for model in models:
        model_files(model)
    return dict(zip(names, models, strict=True))
