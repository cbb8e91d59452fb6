"""Where a training run stands: written by the first rank, found again by all.

    checkpoints/0004-d_uld-000500/state.json      stage, steps done, round of pseudo-labels; written last
                                  …               weights and optimizer, as the engine writes them

Law: a folder without state.json does not count, so that a kill at any moment leaves the checkpoint before it.
"""

from dataclasses import asdict, dataclass

from uldscale import files
from uldscale.training.schedule import Stage

KEPT = 2


@dataclass(frozen=True)
class Position:
    """A place in the schedule."""

    stage: Stage
    step: int
    """Steps of the stage that are done."""
    round: int
    """The last round of pseudo-labels, -1 before the first."""

    @property
    def name(self) -> str:
        """Folder name; later positions sort later."""
        return f"{list(Stage).index(self.stage):02d}-{self.stage}-{self.step:07d}"


def latest(folder: str) -> tuple[Position, str] | None:
    """The last complete checkpoint and its folder."""
    for name in reversed(_complete(folder)):
        state = files.read_json(files.join(folder, name, "state.json"))
        return Position(Stage(state["stage"]), state["step"], state["round"]), files.join(folder, name)
    return None


def commit(folder: str, position: Position) -> None:
    """Declare the checkpoint of a position complete, and drop the old ones."""
    files.write_json(files.join(folder, position.name, "state.json"), asdict(position))
    for name in _complete(folder)[:-KEPT]:
        files.remove(files.join(folder, name, "state.json"))
        files.remove(files.join(folder, name))


def _complete(folder: str) -> list[str]:
    return [name for name in files.names(folder) if files.exists(files.join(folder, name, "state.json"))]
