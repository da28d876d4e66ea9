"""Settings of the stages: data, generation, feedback, DPO."""

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rlaif.config.models import Section


class DataSection(Section):
    """The images and instructions that the policy answers, and how they are divided into splits."""

    source: Literal["scenes", "folder", "table", "parquet", "datasets", "import"] = Field(
        "scenes",
        description="Kind of source: scenes = rendered scenes that come with this project; folder = a folder of image "
        "files; table = a JSON, JSON lines, CSV or parquet file, or a folder of such files; parquet = the same for "
        "parquet only; datasets = a data set of the Hugging Face hub; import = rows with answers, for `make import`.",
    )
    path: str | None = Field(None, description="The folder, file or hub id; null for `source: scenes`.")
    layout: (
        Literal["messages", "conversations", "ms-swift", "mmpr", "rlaif-v", "mm-rlhf", "rlhf-v", "responses"] | None
    ) = Field(
        None,
        description="Layout of the rows, for `source: import`; null = recognized by the columns.",
    )
    instructions: str | None = Field(
        None,
        description="Text file with one instruction a line, for `source: folder`: each image is combined with each "
        "instruction; null = generation/instructions.txt.",
    )
    split: str = Field(
        "train",
        description="Split of the hub data set to read, or a slice of it such as `train[:1000]`.",
    )
    config_name: str | None = Field(
        None, description="Configuration of the hub data set; null = the only one, or its default."
    )
    streaming: bool | None = Field(
        None,
        description="Whether a hub data set is read without downloading all of it; null = if `limit` is set or `split` "
        "is a slice.",
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of the hub data set; null = the newest commit."
    )
    image_hosts: list[str] = Field(
        [],
        description="Host names from which image URLs may be fetched, each as written in the URL. Rows with other URLs "
        "are dropped; with an empty list nothing is fetched.",
    )
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        description="Images with more pixels are dropped. A JPEG with up to twice as many is read at half its width "
        "and height.",
    )
    max_instruction_chars: int = Field(10_000, ge=1, description="Rows with a longer instruction are dropped.")
    max_response_chars: int = Field(
        20_000, ge=1, description="Rows with a longer answer are dropped, for `source: import`."
    )
    image_folder: str | None = Field(
        None,
        description="Folder in which the image paths of tables and data sets start; null = the folder of their file.",
    )
    image_column: str | None = Field(
        None, description="Column with the image of tables and data sets; null = `image`, or else `images`."
    )
    question_column: str | None = Field(
        None,
        description="Column with the instruction of tables and data sets: a text, or a conversation whose first turn "
        "of the user it is; null = `question`, or else `conversations`, or else `messages`.",
    )
    train_prompts: int = Field(400, ge=0, description="Scenes of the train split, for `source: scenes`.")
    train_parts: int = Field(
        1,
        ge=1,
        description="Parts into which the training images are divided by their hash. Round r uses part r, and after "
        "the last part the first again; 1 = every round uses all images. Each part has `train_prompts` scenes.",
    )
    validation_prompts: int = Field(0, ge=0, description="Scenes of the validation split, for `source: scenes`.")
    test_prompts: int = Field(
        300, ge=0, description="Scenes of the test split, on which results are reported, for `source: scenes`."
    )
    validation_share: float = Field(
        0, ge=0, lt=1, description="Share of the images that goes into the validation split, for the other sources."
    )
    test_share: float = Field(
        0, ge=0, lt=1, description="Share of the images that goes into the test split, for the other sources."
    )
    limit: int | None = Field(None, ge=1, description="Use only the first `limit` prompts of a split; null = all.")

    @model_validator(mode="after")
    def _path_fits_source(self) -> Self:
        if self.source == "scenes" and self.path is not None:
            raise ValueError(f"path is {self.path!r}, but source 'scenes' takes none; set data.source too")
        if self.source != "scenes" and self.path is None:
            advice = ": make import DATA=FILE_OR_HUB_ID" if self.source == "import" else ""
            raise ValueError(f"source {self.source!r} needs data.path{advice}")
        if self.source != "import" and self.layout is not None:
            raise ValueError(f"layout is {self.layout!r}, but source {self.source!r} has none; it is for `make import`")
        if self.source != "folder" and self.instructions is not None:
            raise ValueError(
                f"instructions are set, but source {self.source!r} has its own; they are for source 'folder'"
            )
        if self.source == "scenes" and (self.validation_share or self.test_share):
            raise ValueError("validation_share and test_share are for other sources; set validation_prompts for scenes")
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"validation_share {self.validation_share} and test_share {self.test_share} leave no training images"
            )
        for host in self.image_hosts:
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", host):
                raise ValueError(
                    f"image_hosts has {host!r}; expected host names in lower case, such as 'images.example.org'"
                )
        for name in ("revision", "config_name", "streaming"):
            if self.source not in ("datasets", "import") and getattr(self, name) is not None:
                raise ValueError(f"{name} is set, but source {self.source!r} has none; it is for source 'datasets'")
        if self.source in ("scenes", "folder") and self.image_folder is not None:
            raise ValueError(f"image_folder is set, but source {self.source!r} has none; it is for tables")
        return self


class GenerationSection(Section):
    """How the policy samples responses (`make generate`)."""

    splits: list[Literal["train", "validation", "test"]] = Field(
        ["train"],
        min_length=1,
        description="Splits whose prompts are answered. DPO trains on pairs of train and reports the loss on pairs of "
        "validation.",
    )
    num_responses: int = Field(10, ge=1, description="Responses sampled for each prompt.")
    temperature: float = Field(0.7, ge=0, description="Sampling temperature; 0 = greedy decoding.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Nucleus sampling: only the most probable tokens with this total probability."
    )
    max_tokens: int = Field(512, ge=1, description="Longest response, in tokens; longer ones are cut off.")


class AnswersSection(Section):
    """The words that the labeler answers questions with. Case and surrounding space do not matter."""

    yes: list[str] = Field(["yes"], min_length=1, description="Words that mean yes, such as [\u662f, \u5bf9].")
    no: list[str] = Field(["no"], min_length=1, description="Words that mean no, such as [\u5426, \u4e0d].")

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        words = [*self.yes, *self.no]
        for word in words:
            if not word.strip() or word != word.strip():
                raise ValueError(f"has {word!r}; expected words without surrounding space")
        if repeated := next((word for word in words if [w.lower() for w in words].count(word.lower()) > 1), None):
            raise ValueError(f"has {repeated!r} twice; list each word once, whatever its case, for yes or for no")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """All words, those for yes first."""
        return (*self.yes, *self.no)


class FeedbackSection(Section):
    """How responses are divided into claims, verified, scored and paired (`make feedback`)."""

    prompts: str | None = Field(
        None,
        description="Folder with the prompt files of the labeler; null = feedback/prompts, for general models. The "
        "embedded labeler needs assets/prompts.",
    )
    verify: Literal["question", "statement"] = Field(
        "question",
        description="What the labeler gets with the image: question = the claim's question, or the claim itself where "
        "the question asks something else; statement = the claim itself, always.",
    )
    check: Literal["words", "labeler"] = Field(
        "words",
        description="Who decides whether a response makes a claim where words cannot tell: words = it is unknown; "
        "labeler = the splitter or labeler is asked, without the image.",
    )
    answers: AnswersSection = Field(
        AnswersSection(), description="Words for yes and no in the language of the prompts, as first tokens."
    )
    max_retries: int = Field(
        2,
        ge=0,
        description="Further attempts, with other seeds, to divide a response whose list of claims is invalid; also "
        "the most requests for a single claim that fails a check.",
    )
    max_claim_tokens: int = Field(
        1024, ge=1, description="Longest list of claims and questions of a response, in tokens."
    )
    min_yes_no_mass: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A verdict whose probabilities of yes and no add up to less is counted as weak in metrics.json. "
        "The stage stops if the mean over its first 200 questions is less; 0 = it never does.",
    )
    score: Literal["rejected_count", "rejected_share", "expected_rejected", "mean_log_odds", "whole_response"] = Field(
        "rejected_count",
        description="Score of a response from the verdicts on its claims, higher is better. rejected_count = minus the "
        "number of rejected claims (RLAIF-V); rejected_share = minus their share; expected_rejected = minus the sum of "
        "the probabilities of no; mean_log_odds = mean of ln(p_yes / p_no); whole_response = p_yes - p_no of one "
        "question about the whole response.",
    )
    pairs: Literal["responses", "first_difference"] = Field(
        "responses",
        description="What is paired. responses = two responses of which one has a higher score; first_difference = "
        "their beginnings up to the first false sentence of one, where the other goes on truly (SENTINEL). DPO then "
        "learns no end of an answer.",
    )
    min_margin: float = Field(
        0, ge=0, description="Least difference between the scores of the chosen and the rejected response of a pair."
    )
    pairs_per_prompt: int = Field(2, ge=1, description="Maximum number of pairs per prompt.")
    balance_length: bool = Field(
        False,
        description="Choose pairs so that chosen and rejected responses have equally many words on average. Otherwise "
        "DPO may learn that short answers are better.",
    )

    @model_validator(mode="after")
    def _first_differences_have_no_scores(self) -> Self:
        if self.pairs == "first_difference" and (self.score != "rejected_count" or self.min_margin):
            raise ValueError(
                f"pairs is 'first_difference', which needs verdicts alone, but score is {self.score!r} and min_margin "
                f"{self.min_margin:g}; set score to rejected_count and min_margin to 0"
            )
        return self


class LoraSection(Section):
    """The LoRA adapter of `dpo.method: lora`."""

    r: int = Field(64, ge=1, description="Rank of the adapter matrices.")
    alpha: float = Field(16, gt=0, description="Scale: the update of the weights is multiplied by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout on the input of the adapter.")
    target_modules: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        description="Linear layers of the language model that get an adapter.",
    )
    train_resampler: bool = Field(False, description="Also train all weights of the resampler.")


class DpoSection(Section):
    """How the policy is aligned with the pairs (`make dpo`)."""

    trainer: dict[str, Any] = Field(
        {},
        description="Arguments of TRL's DPOConfig, such as beta, loss_type, learning_rate and num_train_epochs; an "
        "unknown one is an error.",
    )
    method: Literal["full", "lora"] = Field(
        "full", description="Weights that are trained: full = all that are not frozen; lora = a LoRA adapter."
    )
    freeze: list[Literal["vision", "resampler", "llm"]] = Field(
        ["vision"], description="Parts of the model that are not trained, for `method: full`."
    )
    lora: LoraSection = Field(LoraSection(), description="The adapter, for `method: lora`.")
    quantization: Literal["4bit"] | None = Field(
        None,
        description="Precision of the language model's frozen matrices while an adapter trains, for `method: lora`: "
        "4bit = NF4 of bitsandbytes (QLoRA), for a small GPU; null = policy.dtype. The adapter is saved merged into "
        "the weights as they were before.",
    )
    max_answer_tokens: int | None = Field(
        None, ge=1, description="Longer answers are cut to this many tokens (prompts never are); null = no limit."
    )
    shared_prefix: bool = Field(
        True,
        description="Compute a prompt with its image once for all answers to it in a batch; MiniCPM-V only. Same loss, "
        "faster.",
    )
    group_pairs: bool = Field(
        True,
        description="Bring the pairs of a prompt into one batch, as far as it has room (`per_device_train_batch_size` "
        "stays), so that `shared_prefix` computes the prompt once for all of them; the order is random otherwise. "
        "MiniCPM-V only; another `dpo.trainer.train_sampling_strategy` than random goes first.",
    )
    shared_vision: bool = Field(
        True,
        description="Encode images once for policy and reference if the vision encoder is frozen, and resample them "
        "once if the resampler is frozen too; MiniCPM-V only. Same loss, faster.",
    )
    cache_vision: str | None = Field(
        None,
        description="Folder that keeps what the frozen vision encoder makes of each image, or the resampler where it "
        "is frozen too, for all epochs, rounds and runs of the same settings; null = nothing is kept. The stage says "
        "how much it takes before it writes: at full size 24 MB or 8 MB an image of 10 slices. Same loss, faster; "
        "MiniCPM-V only.",
    )

    @model_validator(mode="after")
    def _only_adapters_train_on_four_bits(self) -> Self:
        if self.quantization is not None and self.method != "lora":
            raise ValueError(
                f"quantization is {self.quantization!r}, but method {self.method!r} trains the weights themselves; set "
                "dpo.method=lora, or remove dpo.quantization"
            )
        return self
