"""The house: imports go down the floors, the package is light, the words of the README are true."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "uldscale"

FLOORS = [
    {"__main__"},
    {"cli"},
    {"verbs"},
    {"ablation", "sweep"},
    {"pipeline"},
    {"job"},
    {"stages"},
    {"training"},
    {"detector", "detector_card", "inputs", "landmarks", "model_folder"},
    {"data", "formats", "store", "labels", "runs", "locks", "predictions", "probes"},
    {"diffusion", "models", "losses", "clustering", "evaluation"},
    {"runtime"},
    {"files", "config", "errors"},
]
"""Top to bottom; a module imports from its own floor or from below."""

APART = {"diffusion", "models", "losses", "clustering", "evaluation"}
"""Rooms of mathematics, which never import each other."""

WITHOUT_TORCH = {
    "data",
    "formats",
    "store",
    "labels",
    "runs",
    "locks",
    "predictions",
    "probes",
    "files",
    "config",
    "errors",
}


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Modules that a file imports; with `lazy`, also those that its functions import."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {
                node.module,
                *(f"{node.module}.{alias.name}" for alias in node.names if node.module == "uldscale"),
            }
    return found


def violations(room: str, imported: set[str]) -> list[str]:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    ours = sorted(room_of(name) for name in imported if name.startswith("uldscale."))
    return [
        other
        for other in ours
        if other in floor and (floor[other] < floor[room] or (other != room and {other, room} <= APART))
    ]


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert violations(room, imports(path)) == []


def test_a_wrong_import_would_be_seen() -> None:
    assert violations("models", {"uldscale.stages.train"}) == ["stages"]
    assert violations("models", {"uldscale.losses.silk"}) == ["losses"]
    assert violations("stages", {"uldscale.models.network"}) == []


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_things_at_rest_know_no_torch(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in WITHOUT_TORCH:
        heavy = {name.split(".")[0] for name in imports(path, lazy=False)} & {"torch", "ray", "diffusers", "deepspeed"}
        assert not heavy


HEAVY = ("torch", "ray", "deepspeed", "cuml", "diffusers", "transformers", "sklearn", "matplotlib")


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("uldscale", set()),
        ("uldscale.cli", set()),
        ("uldscale.stages.status", set()),
        ("uldscale.pipeline", {"torch", "ray"}),
        ("uldscale.training.loop", {"torch", "ray"}),
    ],
)
def test_light_import(module: str, needed: set[str]) -> None:
    """What a process doesn't use costs it seconds at every start."""
    assert set(loaded(module)) == needed


def test_a_heavy_import_would_be_seen() -> None:
    assert loaded("sklearn") == ["sklearn"]


def loaded(module: str) -> list[str]:
    """Heavy packages that come with a module, in a fresh interpreter."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_every_declared_metric_is_recorded() -> None:
    from uldscale.runtime.metrics import METRICS

    code = "".join(path.read_text("utf-8") for path in SOURCES if path.name != "metrics.py")
    assert [name for name in METRICS if f'"{name}"' not in code] == []


@pytest.mark.parametrize(
    "job",
    sorted([*(ROOT / "jobs").rglob("*.yaml"), PACKAGE / "demo.yaml"]),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_job_loads(job: Path) -> None:
    from uldscale.config import load
    from uldscale.job import Job
    from uldscale.stages.pretrain_config import PretrainConfig

    load(PretrainConfig if job.stem.endswith("-ldm") else Job, str(job))


def test_the_house_in_the_readme_is_the_house() -> None:
    text = (PACKAGE / "README.md").read_text("utf-8")
    house = text[text.index("## The house") : text.index("## Terminology")]
    for path in SOURCES:
        assert path.stem in house or path.parent.name in ("datasets", "faces3d") or path.stem == "__init__", path
