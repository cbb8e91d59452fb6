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


def last_of(folder: str, stage: Stage) -> tuple[Position, str] | None:
    """The last complete checkpoint of a stage and its folder; None before the first."""
    names = [name for name in _complete(folder) if _stage(name) == stage]
    return _read(folder, names[-1]) if names else None


def all_of(folder: str) -> list[Position]:
    """Positions of all complete checkpoints, in order."""
    return [_read(folder, name)[0] for name in _complete(folder)]


def steps(folder: str) -> dict[Stage, int]:
    """Steps done of each stage that has a complete checkpoint."""
    return {position.stage: position.step for position in all_of(folder)}


def commit(folder: str, position: Position) -> None:
    """Declare the checkpoint of a position complete, and drop the old ones; the last of each stage stays."""
    files.write_json(files.join(folder, position.name, "state.json"), asdict(position))
    names = _complete(folder)
    ends = {_stage(name): name for name in names}.values()
    for name in names[:-KEPT]:
        if name not in ends:
            files.remove(files.join(folder, name, "state.json"))
            files.remove(files.join(folder, name))


def copy(source: str, folder: str, position: Position) -> None:
    """Copy the checkpoint of a position, which `source` is, into a folder of checkpoints."""
    files.copy_folder(source, files.join(folder, position.name), last="state.json")


def _read(folder: str, name: str) -> tuple[Position, str]:
    state = files.read_json(files.join(folder, name, "state.json"))
    return Position(Stage(state["stage"]), state["step"], state["round"]), files.join(folder, name)


def _stage(name: str) -> str:
    return name.split("-")[1]


def _complete(folder: str) -> list[str]:
    return [name for name in files.names(folder) if files.exists(files.join(folder, name, "state.json"))]
