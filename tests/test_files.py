"""Small files: whole or not at all."""

from pathlib import Path

import pytest

from uldscale import files


def test_round_trip_and_names(tmp_path: Path) -> None:
    root = str(tmp_path)
    files.write_json(files.join(root, "a", "b.json"), {"x": [1, None]})
    assert files.read_json(files.join(root, "a", "b.json")) == {"x": [1, None]}
    assert files.names(files.join(root, "a")) == ["b.json"]
    assert files.names(files.join(root, "nothing")) == []
    assert files.is_local(root)
    assert not files.is_local("memory://bucket/x")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "x")
    files.write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert files.read_bytes(path) == b"old"
    assert files.names(str(tmp_path)) == ["x"]


def test_object_store() -> None:
    files.write_bytes("memory://bucket/a/x", b"1")
    assert files.exists("memory://bucket/a/x")
    assert files.names("memory://bucket/a") == ["x"]
    files.remove("memory://bucket/a")
    assert not files.exists("memory://bucket/a/x")
    files.remove("memory://bucket/a")


def test_two_colons_are_part_of_a_name(tmp_path: Path) -> None:
    path = str(tmp_path / "a::b.png")
    files.write_bytes(path, b"1")
    assert files.read_bytes(path) == b"1"
    assert files.names(str(tmp_path)) == ["a::b.png"]


def test_the_beginning_of_a_file(tmp_path: Path) -> None:
    for path in (str(tmp_path / "x"), "memory://beginning/x"):
        files.write_bytes(path, b"12345")
        assert [files.read_bytes(path, most) for most in (3, 5, 9)] == [b"123", b"12345", b"12345"]
    with pytest.raises(OSError, match="no regular file"):
        files.read_bytes(str(tmp_path), 3)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(str(tmp_path / "y"), 3)
