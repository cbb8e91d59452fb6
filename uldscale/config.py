"""Settings: frozen, typed, validated once, each class in the module that it configures.

`load` reads a job file with `key.sub=value` overrides. An unknown key is an error that names the nearest known key.
"""

import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from uldscale.errors import ConfigError, first_of


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no silent conversions between kinds."""

    # The string below a field is its description, which `uldscale explain` shows.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    def fingerprint(self) -> str:
        """Twelve hex digits that change when any setting changes."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def updated(self, **changes: Any) -> Self:
        """A copy with some settings changed, validated again."""
        return type(self).model_validate({**self.model_dump(), **changes})


Model = TypeVar("Model", bound=Settings)


def load(model: type[Model], path: str, overrides: Sequence[str] = ()) -> Model:
    """Settings of a YAML file with `key.sub=value` overrides applied. Raises ConfigError with one line per problem.

    The value of an override is text where the setting takes text, else YAML.
    """
    tree = read_yaml(path)
    for override in overrides:
        _apply(model, tree, override)
    return validate(model, tree, path)


def validate(model: type[Model], tree: Any, source: str) -> Model:
    """Settings from plain values; `source` is named in the error, with the first ten problems."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
        raise ConfigError(f"{source}: {first_of(problems, named=10)}") from None


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError when it is missing, not YAML, or not a mapping."""
    if not os.path.isfile(path):
        raise ConfigError(f"job file {path!r} is not there; give the path of a YAML file such as jobs/faces68.yaml")
    try:
        with open(path, encoding="utf-8") as file:
            tree = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds {type(tree).__name__}, but must hold `key: value` lines")
    return tree


def _apply(model: type[Settings], tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must have the form key.sub=value")
    *parents, last = key.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"override {override!r}: {name!r} is a single value and has no keys below it")
    try:
        tree[last] = text if _is_text(text, _kinds(model, key.split("."))) else yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None


def _is_text(text: str, kinds: set[Any]) -> bool:
    """Whether the value of an override is text as it stands, of a setting that takes some kinds of values."""
    if str not in kinds or (text == "null" and type(None) in kinds) or (text.isdecimal() and int in kinds):
        return False
    # A list where both are taken, as of taps; a file may well be called [a].
    return not (text.startswith("[") and kinds & {tuple, list})


def _kinds(model: type[Settings], key: Sequence[str]) -> set[Any]:
    """Types that the setting of a key takes; none for an unknown key."""
    field = model.model_fields.get(key[0])
    if field is None:
        return set()
    if len(key) == 1:
        return set(_types_in(field.annotation))
    return set().union(*(_kinds(nested, key[1:]) for nested in nested_in(field.annotation)))


def _types_in(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from map(type, typing.get_args(annotation))
    elif origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _types_in(argument)
    else:
        yield origin or annotation


def _explain(model: type[Settings], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        # What several settings say together names the values that do not go together.
        shown = problem["type"] != "missing" and not isinstance(problem["input"], dict)
        got = f", got {problem['input']!r}" if shown else ""
        return f"{key or 'settings'}: {problem['msg'].removeprefix('Value error, ')}{got}"
    near = difflib.get_close_matches(key, list(keys(model)), n=1, cutoff=0.5)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def keys(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """All dotted keys below a settings class."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for nested in nested_in(field.annotation):
            yield from keys(nested, f"{prefix}{name}.")


def nested_in(annotation: Any) -> Iterator[type[Settings]]:
    """The settings classes that a field takes."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Settings):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from nested_in(argument)
