"""Warnings of a run at rest, by source, so that its processes can write and `uldscale status` read them at any time.

    warnings/schedule.json    of the settings
             labels.json      of the last rounds of labels
             landmarks.json   of where landmarks are: in the last round of labels, at the end on the images that methods are judged on

A file has the warnings that hold now; metrics.jsonl has all that were found.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from uldscale import files
from uldscale.runs import RunFolder
from uldscale.runtime.beside import repeating
from uldscale.runtime.screen import insist

Source = Literal["schedule", "labels", "landmarks"]
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Symptom:
    """What is wrong, and what to do."""

    name: str
    """One word, for programs."""
    seen: str
    """What was found, in a sentence without its full stop."""
    remedy: str
    """What to try, in an imperative sentence without its full stop."""

    def __str__(self) -> str:
        return f"{self.seen}; {self.remedy}"


def tell(run: RunFolder, source: Source, symptoms: Sequence[Symptom], *, shown: bool = True) -> None:
    """Keep the warnings of a source in the place of those before; what is new is logged and, if `shown`, said on standard error."""
    before = {symptom.name for symptom in _read(run, f"{source}.json")}
    files.write_json(files.join(run.warnings, f"{source}.json"), [asdict(symptom) for symptom in symptoms])
    for symptom in symptoms:
        if symptom.name not in before:
            run.log(event="warning", source=source, **asdict(symptom))
            if shown:
                _say(symptom)


def read(run: RunFolder) -> list[Symptom]:
    """All that hold now."""
    return [symptom for name in files.names(run.warnings) for symptom in _read(run, name)]


@contextmanager
def following(run: RunFolder) -> Iterator[None]:
    """Say on standard error what other processes find while the block runs."""
    said = {symptom.name for symptom in read(run)}

    def look() -> None:
        for symptom in read(run):
            if symptom.name not in said:
                said.add(symptom.name)
                _say(symptom)

    with repeating(look, LOOK_SECONDS, "warnings", last=look):
        yield


def _read(run: RunFolder, name: str) -> list[Symptom]:
    path = files.join(run.warnings, name)
    if not name.endswith(".json") or not files.exists(path):
        return []
    return [Symptom(**symptom) for symptom in files.read_json(path)]


def _say(symptom: Symptom) -> None:
    insist(f"uldscale: warning: {symptom}")
