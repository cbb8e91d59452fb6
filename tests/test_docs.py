"""Every command in the documents can be given: its verb and options are there, its job has these settings, its file exists."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from uldscale.cli import app
from uldscale.job import load_job

ROOT = Path(__file__).parents[1]
DOCUMENTS = [f"{folder}README.md" for folder in ("", "jobs/", "benchmarks/", "uldscale/", "k8s/")]
ELSEWHERE = {
    "kubectl": "a cluster", "helm": "a cluster", "docker": "docker", "kind": "docker", "source": "a shell", "ray": "a cluster",
    "pip": "a network", "apt-get": "a network", "curl": "a network", "aws": "a bucket", "gsutil": "a bucket",
}  # fmt: skip
"""Programs of commands that no test here gives, and what they would need; what `ray job submit` has after `--` is looked at."""


def commands() -> list[tuple[str, str]]:
    """(document, command) of all blocks of code; a line that ends with a backslash goes on."""
    found = []
    for name in DOCUMENTS:
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text("utf-8"))
        blocks = re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
        found += [(name, part.strip()) for line in blocks for part in re.split(r"\s#\s|&&", line.removeprefix("$ "))]
    programs = {"uldscale", "make", "python", *ELSEWHERE}
    return [(name, command) for name, command in found if command.split(" ")[0] in programs]


def test_there_are_commands() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize(("document", "command"), commands())
def test_a_command_can_be_given(document: str, command: str) -> None:
    words = shlex.split(command)
    if words[:3] == ["ray", "job", "submit"]:
        words = words[words.index("--") + 1 :]
    match words:
        case ["make", *targets]:
            made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
            assert set(targets) <= made
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["uldscale", *rest]:
            require(rest)
        case [program, *_]:
            assert program in ELSEWHERE


def require(words: list[str]) -> None:
    """That the command line takes these words, and a job of the repository these settings."""
    command = typer.main.get_command(app)
    command.make_context("uldscale", list(words), resilient_parsing=False)
    name, verb, rest = command.resolve_command(typer.Context(command), list(words))
    while hasattr(verb, "resolve_command"):
        name, verb, rest = verb.resolve_command(typer.Context(verb), rest)
    context = verb.make_context(name, rest)
    job = context.params.get("job")
    if job and (ROOT / job).is_file() and not Path(job).stem.endswith("-ldm"):
        load_job(str(ROOT / job), list(context.params.get("overrides") or []))


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_a_benchmark_imports_of_the_package_is_there(script: Path) -> None:
    """Some of them run on a GPU only, where nobody looks every day."""
    tree = ast.parse(script.read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    for node in (node for node in imports if str(node.module).split(".")[0] == "uldscale"):
        for name in node.names:
            found = getattr(importlib.import_module(str(node.module)), name.name, None)
            assert found is not None or importlib.import_module(f"{node.module}.{name.name}")
