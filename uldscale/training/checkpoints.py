"""Where a training run stands: written by the first rank, found again by all.

    checkpoints/0004-d_uld-000500/state.json      stage, steps done, round of pseudo-labels; written last
                                  …               weights and optimizer, as the engine writes them

Law: a folder without state.json does not count, so that a kill at any moment leaves the checkpoint before it.
"""

from dataclasses import asdict, dataclass

from uldscale import files
from uldscale.training.stages import Stage

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


def last_of(folder: str, stage: Stage) -> Position | None:
    """The last complete checkpoint of a stage; None before the first."""
    return _ends(all_of(folder)).get(stage)


def all_of(folder: str) -> list[Position]:
    """Positions of all complete checkpoints, in order."""
    found = (_read(folder, name) for name in files.names(folder))
    return [position for position in found if position is not None]


def steps(folder: str) -> dict[Stage, int]:
    """Steps done of each stage that has a complete checkpoint."""
    return {stage: position.step for stage, position in _ends(all_of(folder)).items()}


def commit(folder: str, position: Position) -> None:
    """Declare the checkpoint of a position complete, and drop the old ones; the last of each stage stays."""
    files.write_json(files.join(folder, position.name, "state.json"), asdict(position))
    positions = all_of(folder)
    ends = _ends(positions).values()
    for old in positions[:-KEPT]:
        if old not in ends:
            files.remove(files.join(folder, old.name, "state.json"))
            files.remove(files.join(folder, old.name))


def copy(source: str, folder: str, position: Position) -> None:
    """Copy the checkpoint of a position from one folder of checkpoints into another."""
    files.copy_folder(files.join(source, position.name), files.join(folder, position.name), last="state.json")


def _ends(positions: list[Position]) -> dict[Stage, Position]:
    """The last of each stage of positions in order."""
    return {position.stage: position for position in positions}


def _read(folder: str, name: str) -> Position | None:
    """None where the checkpoint is not complete, or is being dropped at this moment."""
    try:
        state = files.read_json(files.join(folder, name, "state.json"))
    except FileNotFoundError:
        return None
    return Position(Stage(state["stage"]), state["step"], state["round"])
