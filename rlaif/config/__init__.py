"""The configuration, described once: YAML files, the command line and docs/configuration.md follow from these classes.

A YAML file in `configs/` gives the sections; `--set section.key=value` changes single values. Unknown keys are errors.
"""

from rlaif.config.edge import EdgeSection
from rlaif.config.encoder import EncoderConfig
from rlaif.config.measures import BenchmarkSection, EvaluationSection, ExportSection, RaterSection, ShortAnswersSection
from rlaif.config.models import EndpointSection, EngineSection, ModelSection, Section
from rlaif.config.pipeline import (
    AblationsConfig,
    AnyConfig,
    CaptionsSection,
    Config,
    RewriteConfig,
    RewriteSection,
    VariantSection,
)
from rlaif.config.stages import (
    AnswersSection,
    DataSection,
    DpoSection,
    FeedbackSection,
    GenerationSection,
    LoraSection,
)
from rlaif.config.training import TrainingConfig
from rlaif.config.tune import TuneSection

__all__ = [
    "AblationsConfig",
    "AnswersSection",
    "AnyConfig",
    "BenchmarkSection",
    "CaptionsSection",
    "Config",
    "DataSection",
    "DpoSection",
    "EdgeSection",
    "EncoderConfig",
    "EndpointSection",
    "EngineSection",
    "EvaluationSection",
    "ExportSection",
    "FeedbackSection",
    "GenerationSection",
    "LoraSection",
    "ModelSection",
    "RaterSection",
    "RewriteConfig",
    "RewriteSection",
    "Section",
    "ShortAnswersSection",
    "TrainingConfig",
    "TuneSection",
    "VariantSection",
]
