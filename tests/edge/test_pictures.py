"""Pictures of a run with and without its table of prompts."""

from pathlib import Path

import pytest

from edge.pictures import read_pictures
from rlaif.config import Config
from rlaif.errors import InputError
from tests.support.synthetic_run import TEST_PROMPTS, make_run


def scenes(**data: object) -> Config:
    return Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "data": data})


def test_pictures_are_the_first_prompts_of_the_split(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    pictures = read_pictures(config, path, "test", 1000)
    assert len(pictures) == TEST_PROMPTS
    assert read_pictures(config, path, "test", 2) == pictures[:2]
    assert pictures != read_pictures(config, path, "train", TEST_PROMPTS)


def test_a_run_without_prompts_has_the_scenes_that_generate_would_write(tmp_path: Path) -> None:
    from generation.prompts import build_prompts
    from generation.sources import read_pictures as read_source

    config = scenes(train_prompts=2, test_prompts=3)
    written = [row for row in build_prompts(read_source(config.data, config.seed), config.data, set(), print)]
    for split, count in (("test", 3), ("train", 2)):
        pictures = read_pictures(config, tmp_path / "run", split, 80)
        expected = [row for row in written if row["split"] == split]
        assert [vars(picture) for picture in pictures] == [
            {**{name: row[name] for name in vars(pictures[0])}, "image": row["image"]["bytes"]} for row in expected
        ]
        assert len(pictures) == count


def test_a_run_without_such_pictures_is_an_error(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    with pytest.raises(InputError, match="no prompts of split 'validation', expected one or more; set"):
        read_pictures(config, path, "validation", 80)
    with pytest.raises(InputError, match="the scenes have no split 'dev', only train, validation, test"):
        read_pictures(scenes(), tmp_path / "none", "dev", 80)
    with pytest.raises(InputError, match="make generate"):
        read_pictures(scenes(source="folder", path="images"), tmp_path / "none", "test", 80)
