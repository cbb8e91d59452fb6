"""The verb `report`: report.html, one file with the verdict, the numbers and the pictures of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as resources
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.errors import IncompleteError
from uldscale.evaluation import placement, plots
from uldscale.runs import RunFolder
from uldscale.runtime.progress import Progress
from uldscale.stages import charts, provenance
from uldscale.stages.evaluate import METHODS
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.tables import by_protocol, measured, measures, title_of
from uldscale.stages.tiles import Album, Tile
from uldscale.stages.verdict import judged, surety, verdict
from uldscale.training.schedule import Stage
from uldscale.training.symptoms import spread

SHOWN_IMAGES, OTHER_IMAGES = 24, 6
"""Images on which the landmarks of the run's method are shown, and those of the others."""
MEAN_IMAGES = 48
"""Images of the mean one."""
PATCHES = 5
"""Examples of a landmark's surroundings."""
POSE_IMAGES = 10
"""Images of a pose."""
QUARANTINED = 50
"""Images that a page names; quarantined.json has them all."""


@dataclass(frozen=True)
class Landmark:
    """What a page says of one landmark."""

    name: str
    colour: str
    found: str
    surety: str
    consistency: float | None
    """Pixels of a crop of 128."""
    patches: str
    """JPEG, base64; empty for a landmark that is never found."""


@dataclass(frozen=True)
class Pose:
    number: int
    count: int
    strip: str
    yaws: str
    """SVG, empty without yaw."""


@dataclass(frozen=True)
class Page:
    """The parts of a report that show one method of a run."""

    index: ImageIndex
    run: RunFolder
    result: dict[str, Any]
    method: str
    points: NDArray[np.float32]
    """(N, K, 2) by row."""
    seen: NDArray[np.float32] | None
    """(N, K) visibility by row, of a method that knows it."""
    album: Album

    def landmarks(self) -> list[Landmark]:
        """Each with its surroundings on some images."""
        rows = self.index.judged()
        shares = placement.shares_found(self.points[rows])
        calm = self.result["methods"][self.method].get("consistency", {}).get("per_landmark_px", [None] * len(shares))
        return [
            Landmark(
                self.album.names[number],
                self.album.hexes[number],
                f"{round(share * len(rows)):,} of {len(rows):,} {judged(self.result)} ({share:.0%})".replace("%", " %"),
                surety(share, calm[number]),
                calm[number],
                self._patches(number),
            )
            for number, share in enumerate(shares)
        ]

    def mean(self) -> Tile:
        """The mean image, with the median places of landmarks on all images."""
        rows = self.index.judged()
        known = self.points[rows]
        never = np.isnan(known).all(0)
        places = np.where(never, np.nan, np.nanmedian(np.where(never, 0, known), axis=0))
        return self.album.mean(spread(rows, MEAN_IMAGES), places)

    def shown(self) -> list[Tile]:
        """Images all over the set."""
        return [self._tile(int(row)) for row in shown_rows(self.index, SHOWN_IMAGES)]

    def ends(self) -> dict[str, list[Tile]]:
        """Best and worst images by their measure; none where there is nothing to measure."""
        images = self.result["methods"][self.method].get("images", {})
        return {end: [self._measured(image) for image in images.get(end, [])] for end in ("best", "worst")}

    def others(self) -> dict[str, list[Tile]]:
        """A few images of each other method, by title."""
        found = {}
        for method in self.result["methods"]:
            if method != self.method:
                points = landmarks_of(self.index, self.run, method).points
                album = self.album.of([str(number) for number in range(points.shape[1])])
                rows = shown_rows(self.index, OTHER_IMAGES)
                found[title_of(method)] = [album.tile(int(row), points[row]) for row in rows]
        return found

    def poses(self) -> list[Pose]:
        """Pose clusters of D-ULD++ on the images that methods are judged on."""
        if Stage.D_ULD_PP.value not in self.result["methods"]:
            return []
        pool, poses = self.index.judged(), landmarks_of(self.index, self.run, Stage.D_ULD_PP.value).poses
        groups = [pool[poses[pool] == pose] for pose in range(int(poses[pool].max()) + 1)]
        known = np.isfinite(self.index.yaw(pool)).any()
        return [
            Pose(
                number,
                len(group),
                self.album.strip(group[:POSE_IMAGES], columns=5),
                plots.yaws(self.index.yaw(group)) if known else "",
            )
            for number, group in enumerate(groups)
        ]

    def _patches(self, landmark: int) -> str:
        rows = shown_rows(self.index, SHOWN_IMAGES)
        rows = spread(rows[np.isfinite(self.points[rows, landmark]).all(-1)], PATCHES)
        return self.album.patches(rows.tolist(), self.points[rows, landmark], landmark)

    def _measured(self, image: dict[str, Any]) -> Tile:
        (row,) = self.index.rows_of([image["id"]])
        return self._tile(int(row), f"{image['value']:.2f}")

    def _tile(self, row: int, note: str = "") -> Tile:
        return self.album.tile(row, self.points[row], note, None if self.seen is None else self.seen[row])


def write_report(index: ImageIndex, size: int, run: RunFolder, name: str) -> str:
    """Write report.html from result.json, metrics.jsonl and the predictions; returns its path. `size`: pixels of the crop.

    Raises IncompleteError when nothing is evaluated yet, or by a version that kept less of it.
    """
    if not files.exists(run.result):
        raise IncompleteError(f"{run.root} has no result.json yet; `uldscale evaluate` the same job first")
    result = files.read_json(run.result)
    if "made" not in result:
        raise IncompleteError(f"{run.result} is of an earlier version; `uldscale evaluate` the same job again")
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(resources("uldscale.stages").joinpath("report.html").read_text("utf-8"))
    files.write_bytes(run.report, template.render(**_context(index, size, run, name, result)).encode())
    return run.report


def _context(index: ImageIndex, size: int, run: RunFolder, name: str, result: dict[str, Any]) -> dict[str, Any]:
    own = [method for method in result["methods"] if method in METHODS] or list(result["methods"])
    points, _, seen = landmarks_of(index, run, own[-1])
    page = Page(index, run, result, own[-1], points, seen, Album(index, size, _names(run, points.shape[1])))
    makers: dict[str, Callable[[], Any]] = {
        "landmarks": page.landmarks,
        "mean": page.mean,
        "ends": page.ends,
        "shown": page.shown,
        "others": page.others,
        "poses": page.poses,
        "pose_charts": partial(charts.pose_charts, run, result),
        "sections": partial(charts.sections, run, result),
    }
    with Progress("report", len(makers), run.progress) as progress:
        parts = {}
        for part, make in makers.items():
            parts[part] = make()
            progress.advance(1, part)
    return {
        **parts,
        "name": name,
        "size": size,
        "result": result,
        "dataset": result["dataset"],
        "judged": judged(result),
        "title": title_of(page.method),
        "verdict": verdict(result, page.method, points.shape[1]),
        "ranked_by": result["methods"][page.method].get("images", {}).get("measure"),
        "protocols": by_protocol(result),
        "measures": measures(result),
        "measured": measured(result),
        "settings": provenance.settings(run, result),
        "costs": provenance.costs(run, result),
        "quarantined": index.quarantined(),
        "quarantined_named": QUARANTINED,
    }


def shown_rows(index: ImageIndex, count: int) -> NDArray[np.int64]:
    """So many images for pictures: spread over yaw where yaw is known, else over the index; always the same for an index."""
    pool = index.judged()
    yaw = index.yaw(pool)
    ordered = pool[np.argsort(yaw, kind="stable")] if np.isfinite(yaw).all() else pool
    return spread(ordered, count)


def _names(run: RunFolder, count: int) -> list[str]:
    """Of the landmarks, as the model folder has them; else their numbers."""
    path = files.join(run.model, "config.json")
    given = files.read_json(path).get("names") if files.exists(path) else None
    return list(given) if given and len(given) == count else [str(number) for number in range(count)]
