"""Settings of exports to other devices."""

from pydantic import Field

from rlaif.config.models import Section
from rlaif.config.tune import TuneSection


class EdgeSection(Section):
    """Exports of the aligned policy for laptops and phones."""

    tune: TuneSection = Field(TuneSection(), description="The search of `make edge-tune` for the fastest settings.")
