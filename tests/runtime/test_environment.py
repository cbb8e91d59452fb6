import os

import pytest

from uldscale.runtime.environment import given, of_worker, stop_spinning


def test_threads_that_wait_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    stop_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE" == of_worker(1, gpus=0)["OMP_WAIT_POLICY"]


def test_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    stop_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_process_without_a_gpu_sees_none() -> None:
    assert of_worker(1, gpus=0)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in of_worker(1, gpus=0.5)


@pytest.mark.parametrize("before", [None, "0,1"])
def test_in_a_block_without_gpus_libraries_find_none(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with given(gpus=1):
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    with given(gpus=0):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
