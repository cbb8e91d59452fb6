"""Settings: unknown keys name the nearest one, overrides apply, problems are one line."""

from pathlib import Path
from typing import Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from uldscale.config import Settings, load, read_yaml
from uldscale.errors import ConfigError


class Inner(Settings):
    steps: int = Field(default=1, ge=1)
    rate: float = 0.1

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.steps * self.rate > 100:
            raise ValueError(f"steps={self.steps} times rate={self.rate:g} is more than 100")
        return self


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    place: str | int | None = None
    taps: Literal["all"] | tuple[str, ...] = "all"
    later: Inner | None = None


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\ninner: {steps: 3}\n")
    return str(path)


def test_file_and_overrides(job: str) -> None:
    settings = load(Outer, job, ["inner.rate=0.5", "name=y"])
    assert settings == Outer(name="y", inner=Inner(steps=3, rate=0.5))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=pics #2", "pics #2"),
        ("name=12", "12"),
        ("name=null", "null"),
        ("name=[a]", "[a]"),
        ("name=no", "no"),
        ("name=a: b", "a: b"),
        ("place=2024-05-01", "2024-05-01"),
        ("place=500", 500),
        ("place=null", None),
        ("taps=all", "all"),
        ("taps=[a, b]", ("a", "b")),
        ("later=null", None),
    ],
)
def test_text_is_text_where_text_is_wanted(job: str, override: str, value: object) -> None:
    assert getattr(load(Outer, job, [override]), override.partition("=")[0]) == value


def test_override_makes_missing_sections(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\n")
    assert load(Outer, str(path), ["inner.steps=7"]).inner.steps == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.stpes=3", "unknown key 'inner.stpes'; did you mean 'inner.steps'?"),
        ("inner.steps=0", "inner.steps: Input should be greater than or equal to 1, got 0"),
        ("inner.steps=many", "inner.steps: Input should be a valid integer"),
        ("inner.steps", "must have the form key.sub=value"),
        ("name.first=a", "'name' is a single value and has no keys below it"),
        ("inner.rate=[", "is not a YAML value"),
    ],
)
def test_wrong_overrides(job: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Outer, job, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_that_do_not_go_together_are_named_and_no_others(job: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Outer, job, ["inner.rate=40"])
    assert str(error.value).endswith("inner: steps=3 times rate=40 is more than 100")


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match="is not there"):
        load(Outer, "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not valid YAML"), ("- 1", "must hold `key: value` lines"), ("inner: {}", "name: Field required")],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(Outer, str(path))
    assert message in str(error.value)


def test_fingerprint_follows_every_setting() -> None:
    assert Inner().fingerprint() == Inner().fingerprint() != Inner(rate=0.2).fingerprint()


def test_settings_are_frozen_and_updated_whole() -> None:
    with pytest.raises(ValidationError):
        Inner().steps = 2  # type: ignore[misc]
    assert Inner().updated(steps=2) == Inner(steps=2)
    with pytest.raises(ValidationError):
        Inner().updated(steps=0)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes("name: Gesichter für mich".encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid YAML: 'utf-8' codec"):
        read_yaml(str(tmp_path / "job.yaml"))
