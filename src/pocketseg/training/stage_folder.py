"""What lies where in the folder of a stage; everything else asks here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BEST = "best.safetensors"


@dataclass(frozen=True)
class StageFolder:
    """The folder of a stage that is trained, `RUN/fold-N/STAGE`."""

    path: Path

    @property
    def best(self) -> Path:
        """The weights that the stage leaves, of its best or last epoch, in f32."""
        return self.path / BEST

    @property
    def last(self) -> Path:
        """The state of the training, to be resumed."""
        return self.path / "last.safetensors"

    @property
    def packed(self) -> Path:
        """The best weights of a quantized stage, in the bits they need."""
        return self.path / "packed.safetensors"

    @property
    def history(self) -> Path:
        """A row for each epoch: losses and scores, the same for the same training."""
        return self.path / "history.csv"

    @property
    def timings(self) -> Path:
        """A row for each epoch: seconds."""
        return self.path / "timings.csv"

    @property
    def sensitivity(self) -> Path:
        """What each layer loses when it alone is quantized."""
        return self.path / "sensitivity.csv"

    @property
    def architecture(self) -> Path:
        """The net layer by layer, with costs."""
        return self.path / "architecture.json"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def examples(self) -> Path:
        return self.path / "examples.png"

    @property
    def teacher(self) -> Path:
        """Probability maps of a teacher, where they are cached."""
        return self.path / "teacher"

    @property
    def teacher_choice(self) -> Path:
        """Whether the teacher runs or its maps are read, as it was measured."""
        return self.path / "teacher.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def exists(self) -> bool:
        """Whether a stage has been trained here."""
        return self.best.is_file()
