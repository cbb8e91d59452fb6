"""Where a stage stands, in a small file that others read; apart from who writes it, since who only reads needs no Ray."""

from dataclasses import dataclass

from uldscale import files


@dataclass(frozen=True)
class Standing:
    """Where a stage stands, as the process that does it says."""

    stage: str
    total: int
    done: int = 0
    begun: int = 0
    """How many were done when the process took it up."""
    seconds: float = 0.0
    """Since then."""
    active: bool = True
    note: str = ""
    """What else there is to say, such as the loss."""
    time: float = 0.0
    """When it was said, Unix seconds."""

    @property
    def rate(self) -> float:
        """A second."""
        return (self.done - self.begun) / max(1e-9, self.seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the end at this rate; None where nothing is done yet."""
        return (self.total - self.done) / self.rate if self.done > self.begun else None

    def line(self) -> str:
        """All of it in words."""
        share = 100 * self.done / max(1, self.total)
        parts = [f"{self.stage}: {self.done}/{self.total} ({share:.0f} %)"]
        if self.done > self.begun:
            parts.append(f"{self.rate:.3g}/s")
        if self.done >= self.total:
            parts.append(f"{clock(self.seconds)} in all")
        elif self.left is not None:
            parts.append(f"{clock(self.left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


def read(folder: str) -> list[Standing]:
    """Standings of all stages that said something, in the order in which they did so last."""
    names = [name for name in files.names(folder) if name.endswith(".json")]
    found = [Standing(**files.read_json(files.join(folder, name))) for name in names]
    return sorted(found, key=lambda standing: standing.time)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
