"""The verb `explain`: what settings mean, from the docstrings of the classes that have them."""

import difflib
import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from uldscale import files
from uldscale.config import Settings, keys, nested_in
from uldscale.errors import ConfigError
from uldscale.job import Job

_EXTRA = {"train.batch_per_worker": "train.batch"}
"""Other ways of saying a setting, which no class has."""


@dataclass(frozen=True)
class Entry:
    """A setting."""

    key: str
    kind: str
    default: str
    meaning: str
    below: bool
    """Whether it has settings of its own."""


def explain(key: str | None) -> None:
    """Print a setting, or all of a part of them; without a key the parts of a job.

    Raises ConfigError for an unknown key, with the nearest known one.
    """
    for entry in entries(key):
        typer.echo(f"{entry.key}{'.*' if entry.below else ''}  ({entry.kind}; {entry.default})")
        if entry.meaning:
            typer.echo(textwrap.fill(entry.meaning, 100, initial_indent="    ", subsequent_indent="    "))


def entries(key: str | None) -> list[Entry]:
    """The settings of a key, or the setting itself. Raises ConfigError."""
    key = _EXTRA.get(key, key) if key else None
    if key is None:
        return list(_of(Job, None, ""))
    if key not in set(keys(Job)):
        near = difflib.get_close_matches(key, [*keys(Job), *_EXTRA], n=1, cutoff=0.4)
        raise ConfigError(
            f"unknown key {key!r}"
            + (f"; did you mean {near[0]!r}?" if near else "; `uldscale explain` lists all parts")
        )
    *parents, name = key.split(".")
    part: type[Settings] = Job
    given: Settings | None = None
    for number, parent in enumerate(parents):
        rest = ".".join([*parents[number + 1 :], name])
        below = _below(part.model_fields[parent], given, parent)
        part, given = next(settings for settings in below if rest in set(keys(settings[0])))
    under = _below(part.model_fields[name], given, name)
    found = [entry for settings in under for entry in _of(*settings, f"{key}.")]
    return found or [_entry(part, given, name, key.removesuffix(name))]


def _below(field: FieldInfo, given: Settings | None, name: str) -> list[tuple[type[Settings], Settings | None]]:
    """The classes of a part, and the settings that stand for it when a job says nothing of it."""
    default = field.default if given is None else getattr(given, name)
    return [(kind, default if isinstance(default, kind) else None) for kind in nested_in(field.annotation)]


def _of(owner: type[Settings], given: Settings | None, prefix: str) -> Iterator[Entry]:
    for name in owner.model_fields:
        yield _entry(owner, given, name, prefix)


def _entry(owner: type[Settings], given: Settings | None, name: str, prefix: str) -> Entry:
    field = owner.model_fields[name]
    below = list(nested_in(field.annotation))
    meaning = field.description or ""
    if not meaning and below:
        meaning = inspect.cleandoc(below[0].__doc__ or "").partition("\n\n")[0]
    return Entry(prefix + name, _kind(field), _default(field, name, given), " ".join(meaning.split()), bool(below))


def _kind(field: FieldInfo) -> str:
    """The type as people write it, with its limits."""
    limits = [f"{sign} {bound:g}" for sign, bound in _limits(field)]
    return " ".join([_words(field.annotation), *limits])


def _words(annotation: Any) -> str:
    nested = list(nested_in(annotation))
    optional = " or null" if type(None) in typing.get_args(annotation) else ""
    if nested:
        return f"settings{optional}"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin in (tuple, list):
        return f"list of {_words(arguments[0])}"
    if arguments:
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    named = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "NoneType": "null"}
    name = getattr(annotation, "__name__", str(annotation))
    return named.get(name, name)


def _limits(field: FieldInfo) -> Iterator[tuple[str, float]]:
    for constraint in field.metadata:
        for attribute, sign in {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "multiple of"}.items():
            bound = getattr(constraint, attribute, None)
            if isinstance(bound, int | float):
                yield sign, bound


def _default(field: FieldInfo, name: str, given: Settings | None) -> str:
    value = field.default if given is None else getattr(given, name)
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, Settings):
        return "see below it"
    return f"default {_plain(value)}"


def _plain(value: Any) -> str:
    """A value as a job file has it."""
    return (
        yaml.safe_dump(files.plain(value), default_flow_style=True, width=10_000)
        .removesuffix("\n")
        .removesuffix("\n...")
    )
