"""Configuration: what is read, what is refused, and the one line that says why."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlaif.config import Config, RewriteConfig
from rlaif.config.load import load_config, load_config_of
from rlaif.errors import ConfigError, RlaifError
from tests.support import ROOT

MINIMAL = "policy: {model: assets/policy}\nlabeler: {model: assets/labeler}\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert isinstance(caught.value, RlaifError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_those_of_the_method(write: Callable[[str], Path]) -> None:
    config = load_config(write(MINIMAL))
    assert (config.seed, config.round) == (0, 1)
    assert (config.generation.num_responses, config.generation.temperature) == (10, 0.7)
    assert (config.feedback.score, config.feedback.pairs_per_prompt) == ("rejected_count", 2)
    assert (config.dpo.method, config.dpo.freeze, config.dpo.lora.r) == ("full", ["vision"], 64)
    assert config.labeler.dtype == "auto"


def test_overrides_apply_in_order_and_reach_free_keys(write: Callable[[str], Path]) -> None:
    config = load_config(
        write(MINIMAL + "dpo: {trainer: {beta: 0.1}}\n"),
        ["seed=1", "seed=2", "dpo.trainer.learning_rate=5e-7", "dpo.freeze=[vision,llm]", "engine.max_model_len=null"],
    )
    assert config.seed == 2
    assert config.dpo.trainer == {"beta": 0.1, "learning_rate": 5e-7}
    assert config.dpo.freeze == ["vision", "llm"]
    assert config.engine.max_model_len is None


@pytest.mark.parametrize("text", ["5e-7", "5E-7", "+5.e-7", "5.0e-7"])
def test_numbers_in_scientific_notation_are_numbers(write: Callable[[str], Path], text: str) -> None:
    assert load_config(write(MINIMAL + f"dpo: {{trainer: {{learning_rate: {text}}}}}")).dpo.trainer == {
        "learning_rate": 5e-7
    }


def test_no_is_a_word_and_false_is_not(write: Callable[[str], Path]) -> None:
    text = f"{MINIMAL}\ndpo:\n  trainer: {{eval_strategy: no}}\n"
    changes = ["dpo.trainer.logging_strategy=no", "feedback.balance_length=false", "engine.prefix_caching=False"]
    config = load_config(write(text), changes)
    assert config.dpo.trainer == {"eval_strategy": "no", "logging_strategy": "no"}
    assert config.feedback.balance_length is False and config.engine.prefix_caching is False


def test_unknown_key_names_its_path_the_allowed_keys_and_the_nearest(write: Callable[[str], Path]) -> None:
    path = write(MINIMAL + "generation: {num_reponses: 4}\n")
    assert message(path) == (
        f"{path}: unknown key 'generation.num_reponses'; did you mean 'num_responses'? "
        "allowed here: splits, num_responses, temperature, top_p, max_tokens"
    )


def test_unknown_section_goes_before_what_is_missing_for_it(write: Callable[[str], Path]) -> None:
    text = message(write("policy: {model: assets/policy}\nlabeller: {model: assets/labeler}\n"))
    assert "unknown key 'labeller'; did you mean 'labeler'?" in text
    assert text.endswith("(and 1 more)")


def test_unknown_key_in_a_nested_section(write: Callable[[str], Path]) -> None:
    text = message(write(MINIMAL), "dpo.lora.rank=8")
    assert "unknown key 'dpo.lora.rank'" in text
    assert "allowed here: r, alpha, dropout" in text


def test_captions_are_rewritten_by_a_configuration_of_their_own(write: Callable[[str], Path]) -> None:
    path = write("rewriter: {model: x}\ncaptions: {path: y}\n")
    config = load_config_of(RewriteConfig, path, ["rewrite.min_words=5"])
    assert (config.rewriter.model, config.captions.caption_column, config.rewrite.min_words) == ("x", "caption", 5)
    with pytest.raises(ConfigError, match=r"unknown key 'captions\.colum'; allowed here: path, image_column"):
        load_config_of(RewriteConfig, path, ["captions.colum=text"])


def test_missing_section(write: Callable[[str], Path]) -> None:
    assert message(write("policy: {model: x}\n")).endswith("labeler is missing; it has no default")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("generation.num_responses=0", "generation.num_responses is 0: input should be greater than or equal to 1"),
        ("generation.num_responses=ten", "generation.num_responses is 'ten': input should be a valid integer"),
        ("generation=", "generation is None: input should be a valid dictionary"),
        ("dpo.method=qlora", "dpo.method is 'qlora': input should be 'full' or 'lora'"),
        ("dpo.freeze=[eyes]", "dpo.freeze.0 is 'eyes': input should be 'vision', 'resampler' or 'llm'"),
        ("data.path=photos", "data: path is 'photos', but source 'scenes' takes none; set data.source too"),
        ("data.source=parquet", "data: source 'parquet' needs data.path"),
        ("data={source: parquet, path: x, instructions: y}", "instructions are set, but source 'parquet' has its own"),
    ],
)
def test_values_that_are_not_allowed(write: Callable[[str], Path], override: str, expected: str) -> None:
    assert expected in message(write(MINIMAL), override)


def test_answers_are_lists_of_words(write: Callable[[str], Path]) -> None:
    text = MINIMAL + "feedback: {answers: {yes: [\u662f, \u5bf9], no: [\u5426]}}\n"
    assert load_config(write(text)).feedback.answers.words == ("\u662f", "\u5bf9", "\u5426")
    assert load_config(write(MINIMAL), ["feedback.answers.yes=[yes,ja]"]).feedback.answers.words == (
        "yes",
        "ja",
        "no",
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("feedback.answers.yes=[]", "feedback.answers.yes is []: list should have at least 1 item"),
        ("feedback.answers.yes=[' ja']", "feedback.answers: has ' ja'; expected words without surrounding space"),
        ("feedback.answers.yes=[yes,Yes]", "feedback.answers: has 'yes' twice; list each word once"),
        ("feedback.answers.no=[YES]", "feedback.answers: has 'yes' twice"),
        ("labeler.max_pixels=0", "labeler.max_pixels is 0: input should be greater than or equal to 1"),
        (
            "policy.max_pixels=9",
            "policy.max_pixels is set, but the policy is trained without it; it is for",
        ),
        ("policy.chat_template_kwargs={a: 1}", "policy.chat_template_kwargs is set, but the policy is trained without"),
    ],
)
def test_settings_of_labelers_that_are_not_allowed(write: Callable[[str], Path], override: str, expected: str) -> None:
    assert expected in message(write(MINIMAL), override)


ENDPOINT = "labeler.endpoint.url=http://127.0.0.1:8000/v1/"


def test_a_labeler_behind_an_endpoint(write: Callable[[str], Path]) -> None:
    config = load_config(write(MINIMAL), [ENDPOINT, "labeler.endpoint.timeout=5"])
    endpoint = config.labeler.endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.timeout) == ("http://127.0.0.1:8000/v1", 5)
    assert (endpoint.api_key_env, endpoint.top_logprobs) == ("RLAIF_API_KEY", 20)
    assert config.policy.endpoint is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "labeler.endpoint.url=localhost:8000",
            "labeler.endpoint.url: 'localhost:8000' is not an address; expected http",
        ),
        ("labeler.endpoint.url=ftp://host/v1", "labeler.endpoint.url: 'ftp://host/v1' is not an address"),
        ("labeler.dtype=float32", "labeler: dtype is 'float32', which the server of an endpoint decides"),
        ("policy.endpoint.url=http://host/v1", "policy.endpoint is set, but the policy is trained here"),
        ("labeler.endpoint.api_key=x", "unknown key 'labeler.endpoint.api_key'; did you mean 'api_key_env'?"),
    ],
)
def test_endpoints_that_are_not_allowed(write: Callable[[str], Path], override: str, expected: str) -> None:
    assert expected in message(write(MINIMAL), ENDPOINT, override)


@pytest.mark.parametrize(
    "override",
    [
        "labeler.endpoint.url=https://user:sk-secret@host/v1",
        "labeler.endpoint.url=https://host/v1?key=sk-secret",
        "labeler.endpoint.api_key_env=sk-secret",
        "labeler.endpoint.api_key=sk-secret",
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_told(write: Callable[[str], Path], override: str) -> None:
    assert "sk-secret" not in message(write(MINIMAL), ENDPOINT, override)


@pytest.mark.parametrize("override", ["seed", "=3", "dpo..beta=1", ""])
def test_malformed_override(write: Callable[[str], Path], override: str) -> None:
    assert f"--set got {override!r}; expected section.key=value" in message(write(MINIMAL), override)


def test_override_below_a_single_value(write: Callable[[str], Path]) -> None:
    assert "--set seed.x: seed is a value, not a section; it has no keys" in message(
        write(MINIMAL + "seed: 1\n"), "seed.x=1"
    )
    assert "the value '[1' is not valid YAML" in message(write(MINIMAL), "seed=[1")


def test_files_that_are_no_configuration(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write(MINIMAL)
    assert message(tmp_path / "other.yaml") == (
        f"no configuration file {tmp_path}/other.yaml; files in that folder: {path}"
    )
    assert "files in that folder: none" in message(tmp_path / "nowhere" / "other.yaml")
    assert "is not valid YAML" in message(write("policy: [\n"))
    assert ": expected a mapping, got str; see configs/demo.yaml" in message(write("just words"))
    assert "key 'seed' is repeated" in message(write(MINIMAL + "seed: 1\nseed: 2\n"))


@pytest.mark.parametrize("name", ["demo", "rounds", "minicpmv-2.5", "photos", "endpoint"])
def test_written_out_and_read_again_it_is_the_same(name: str, write: Callable[[str], Path]) -> None:
    """To the letter, as a run is bound to it: 0 and 0.0 are not the same. Commands made of stages write it out."""

    def letters(config: Config) -> str:
        return json.dumps(config.model_dump(), sort_keys=True)

    config = load_config(ROOT / "configs" / f"{name}.yaml")
    again = load_config(write(yaml.safe_dump(config.model_dump(mode="json"))))
    assert letters(again) == letters(config)
