"""Hair: a cap over the skull, a curtain for long hair, and a bun.

Law: on the forehead hair ends at `line`, give or take its ragged edge, so the brows stay free of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.grid import Array, join, smooth, unit
from uldscale.data.faces3d.look import Look
from uldscale.data.faces3d.noise import enlarge, field
from uldscale.data.faces3d.render import Mesh
from uldscale.data.faces3d.shape import CENTRE_Z, Surface

_KINDS = ("bald", "buzz", "short", "short", "quiff", "fringe", "afro", "bob", "long", "long", "back")
_THICK = {
    "buzz": 0.02,
    "short": 0.08,
    "quiff": 0.06,
    "fringe": 0.1,
    "afro": 0.35,
    "bob": 0.12,
    "long": 0.1,
    "back": 0.04,
}
_TOP = {"quiff": 0.22, "short": 0.08, "fringe": 0.05, "bob": 0.06}
_DROP = {"bob": (-0.95, -0.45), "long": (-2.4, -1.3)}


@dataclass(frozen=True)
class Hair:
    """A style. Heights are y in head units, angles in degrees from the front."""

    line: float
    temple: float
    sideburn: float
    thick: float
    top: float
    rough: float
    curl: float
    part: float | None
    drop: float | None
    edge: float
    bun: bool


def draw_style(rng: Generator) -> Hair | None:
    """A random style; None is bald."""
    kind = rng.choice(_KINDS)
    if kind == "bald":
        return None
    top = _TOP.get(str(kind), 0.03)
    fringe = kind == "fringe" or (kind in ("bob", "long") and rng.random() < 0.35)
    return Hair(
        line=float(rng.uniform(0.36, 0.46) if fringe else rng.uniform(0.58, 0.82)),
        temple=float(rng.uniform(0.2, 0.55)),
        sideburn=float(rng.uniform(-0.25, 0.12)),
        thick=float(_THICK[str(kind)] * rng.uniform(0.75, 1.3)),
        top=float(top * rng.uniform(0.5, 1.4)),
        rough=float(rng.uniform(0.1, 0.45)),
        curl=float(rng.uniform(0.6, 1.0) if kind == "afro" or rng.random() < 0.2 else rng.uniform(0, 0.3)),
        part=float(rng.uniform(-40, 40)) if rng.random() < 0.5 and not fringe else None,
        drop=float(rng.uniform(*_DROP[str(kind)])) if kind in _DROP else None,
        edge=float(rng.uniform(72, 112)),
        bun=bool(kind == "back" and rng.random() < 0.6),
    )


def grow(style: Hair, look: Look, surface: Surface, rng: Generator) -> list[Mesh]:
    """The hair's meshes in head coordinates."""
    meshes = [_cap(style, look, surface, rng)]
    if style.drop is not None:
        meshes.append(_curtain(style, look, surface, rng))
    if style.bun:
        meshes.append(_bun(look, rng))
    return meshes


def strands(rng: Generator, rows: int, cols: int, curl: float) -> Array:
    """(rows, cols) noise that runs down the rows; with curl it breaks into tufts."""
    long = 0.6 * field(rng, (5, 170), rows, cols) + 0.55 * field(rng, (4, 60), rows, cols)
    tufts = field(rng, (60, 75), rows, cols) + 0.5 * field(rng, (110, 140), rows, cols)
    return np.asarray(long * (1 - curl) + tufts * curl)


def dye(look: Look, strand: Array, dark: Array | float = 1.0) -> Array:
    """(R, C, 3) hair colour with the strands' light and dark."""
    level = np.clip(1 + 0.24 * strand, 0.35, 1.8) * dark
    return join(*(np.clip(c * level + 0.018 * strand, 0.01, 1) for c in look.hair))


def hairline(style: Hair, theta: Array) -> Array:
    """y of the hair's lower edge over theta."""
    angles = np.radians([0, 28, 48, 62, 74, 84, 96, 112, 140, 180])
    line, corner = style.line, min(style.line, style.temple + 0.15)
    heights = [line, line - 0.02, corner, style.temple, style.sideburn + 0.1, style.sideburn, 0.12, -0.3, -0.6, -0.66]
    return np.interp(np.abs(theta), angles, heights).astype(np.float32)


def _cap(style: Hair, look: Look, surface: Surface, rng: Generator) -> Mesh:
    """The skull's own surface, lifted where hair grows."""
    rows = int(np.searchsorted(surface.t, 13.0))
    x, y, z, theta = surface.x[:rows], surface.y[:rows], surface.z[:rows], surface.theta
    strand = strands(rng, rows, len(theta), style.curl)
    over = y - hairline(style, theta) + 0.025 * strand
    body = smooth(0.16, over - 0.12) * (1 + 0.12 * field(rng, (7, 9), rows, len(theta)))
    lift = style.thick * body + style.top * smooth(0.3, y - 0.75) * smooth(0.25, over - 0.12)
    lift = lift * (1 + style.rough * (0.25 + 0.35 * style.curl) * strand) + 0.004 + 0.01 * smooth(0.05, over - 0.05)
    if style.part is not None:
        groove = np.exp(-(((np.degrees(theta) - style.part) / 4.0) ** 2)) * smooth(0.5, z - 0.1)
        lift = lift * (1 - 0.65 * groove)
    points = join(x, y, z) + unit(x, 0.8 * (y - 0.1), z - CENTRE_Z) * lift[..., None]
    root = 0.72 + 0.28 * smooth(0.15, over - 0.1)
    # Roots let the skin through, so that the line does not look cut with scissors.
    colour = dye(look, strand, root)
    colour += (0.9 * look.skin - colour) * (0.85 * (1 - smooth(0.045, over - 0.03)))[..., None]
    return Mesh(points, colour, over > 0, 0.10 * (1 - style.curl))


def _curtain(style: Hair, look: Look, surface: Surface, rng: Generator) -> Mesh:
    """Hair that falls from the temples and the back of the head; its front edge is at the angle `edge`."""
    rows, cols = 110, 170
    drop = style.drop if style.drop is not None else -1.0
    edge = np.radians(style.edge)
    theta = np.linspace(edge, 2 * np.pi - edge, cols)
    fall = np.linspace(0, 1, rows)[:, None]
    strand = strands(rng, rows, cols, 0.5 * style.curl)
    wave = 0.04 * np.sin(fall * rng.uniform(4, 14) + 2 * enlarge(rng.standard_normal((1, 8)), 1, cols))
    end = drop + 0.06 * enlarge(rng.standard_normal((1, 40)), 1, cols)
    y = 0.5 + (end - 0.5) * fall
    rim = smooth(0.35, (np.minimum(theta, 2 * np.pi - theta) - edge)[None, :] - 0.3)
    wide = float(np.abs(surface.x).max()) - 0.02 + style.thick * rim + wave + 0.03 * strand * style.rough
    tuck = 1 - 0.22 * smooth(0.5, -0.75 - y) * (drop > -1.2) - 0.05 * smooth(0.4, -0.6 - y)
    # Angles pass the front on the way round, so the mesh runs from image right over the back to image left.
    x = wide * tuck * np.sin(theta)
    z = CENTRE_Z - 0.05 + (0.92 + style.thick * rim + wave) * tuck * np.cos(theta)
    colour = dye(look, strand, 0.8 + 0.25 * smooth(0.8, 0.3 + y))
    return Mesh(join(x, y, z), colour, None, 0.10 * (1 - style.curl), two_sided=True)


def _bun(look: Look, rng: Generator) -> Mesh:
    """A ball of hair at the crown or the back of the head."""
    lat, lon = np.linspace(0, np.pi, 50)[:, None], np.linspace(-np.pi, np.pi, 80)[None, :]
    radius, tilt = rng.uniform(0.22, 0.36), np.radians(rng.uniform(5, 75))
    centre = np.array([0, 0.15 + 1.05 * np.cos(tilt), CENTRE_Z - 1.1 * np.sin(tilt)])
    strand = strands(rng, 50, 80, 0.4)
    r = radius * (1 + 0.04 * strand)
    ball = join(r * np.sin(lat) * np.sin(lon), r * np.cos(lat), r * np.sin(lat) * np.cos(lon))
    return Mesh((ball + centre).astype(np.float32), dye(look, strand), None, 0.08)
