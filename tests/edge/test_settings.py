"""Settings of the language model: what is allowed, and the file that they are kept in."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge.settings import Settings, read_settings, write_settings
from rlaif.errors import ConfigError, InputError
from rlaif.storage.files import read_json


def test_without_a_search_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == Settings()


def test_written_settings_are_read_again(tmp_path: Path) -> None:
    settings = Settings(
        threads=3, batch=64, ubatch=32, flash_attention="on", kv_type="q8_0", repack=False, build="portable"
    )
    write_settings(tmp_path, settings, policy="runs/x/policy")
    assert read_settings(tmp_path) == settings != Settings()
    assert read_json(tmp_path / "settings.json")["policy"] == "runs/x/policy"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"threads": 0}, "threads is 0, expected at least 1; correct it"),
        ({"threads": True}, "threads is True, expected int"),
        ({"batch": "64"}, "batch is '64', expected int; correct it"),
        ({"repack": 1}, "repack is 1, expected bool; correct it"),
        ({"flash_attention": "yes"}, "flash_attention is 'yes', expected one of auto, on, off; correct it"),
        ({"kv_type": "q2"}, "kv_type is 'q2', expected one of f16, q8_0, q4_0; correct it"),
        ({"kv_type": "q8_0", "flash_attention": "off"}, "set flash_attention to auto or on"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_line(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as direct:
        Settings(**values)
    assert message in str(direct.value)
    (tmp_path / "settings.json").write_text(f'{{"settings": {json.dumps(values)}}}')
    with pytest.raises(ConfigError) as read:
        read_settings(tmp_path)
    assert str(tmp_path) in str(read.value) and message in str(read.value)


def test_a_damaged_or_other_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"settings": {"threads"')
    with pytest.raises(InputError, match="is not valid JSON"):
        read_settings(tmp_path)
    file.write_text('{"settings": {"thread": 2}}')
    with pytest.raises(ConfigError, match="unknown setting 'thread', expected threads, batch"):
        read_settings(tmp_path)
    file.write_text("[1]")
    with pytest.raises(ConfigError, match="has no settings, expected what `make edge-tune` writes"):
        read_settings(tmp_path)
