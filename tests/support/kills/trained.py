"""A run folder of training, as a kill leaves it."""

import json
from pathlib import Path


def leave_as_killed(run: Path, step: int) -> None:
    """Undo the end of a training stage: a kill while the checkpoint of `step` is written leaves this."""
    marker = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps({**marker, "finished": False}))
    (run / "model" / "model.safetensors").unlink()
    (run / "training" / f"checkpoint-{step}" / "trainer_state.json").unlink()
