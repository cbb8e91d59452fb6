"""Jobs: what belongs to the identity of a run."""

import pytest
import yaml

from uldscale.job import Job, identity_of

SETTINGS = {"name": "x", "data": {"kind": "faces3d", "train": 8}}


def test_what_changes_no_result_is_no_part_of_it() -> None:
    job = Job.model_validate(SETTINGS)
    free = {"log_every": 7, "checkpoint_every": 9, "keep_rounds": 3}
    assert job.updated(train=free, runtime={"ray": False}, output="elsewhere").identity() == job.identity()
    assert job.updated(train={"batch": 14}).identity() != job.identity()


def test_the_output_may_be_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Job.model_validate({**SETTINGS, "output": "~/runs/"}).root == "/home/somebody/runs/x"


def test_a_setting_that_came_later_had_its_default() -> None:
    job = Job.model_validate(SETTINGS)
    written = yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))
    del written["train"]["overlap"], written["train"]["losses"]["negatives"]
    assert identity_of(written) == job.identity()
    assert identity_of({**written, "gone": 1}) == {**written, "gone": 1}


def test_a_run_may_be_moved_with_its_store() -> None:
    job = Job.model_validate(SETTINGS)
    assert job.updated(extract={"store": {"root": "elsewhere"}}).identity() == job.identity()


@pytest.mark.parametrize("batch", [None, "many"])
def test_a_batch_of_a_worker_is_a_number(batch: object) -> None:
    with pytest.raises(ValueError, match="train.batch_per_worker must be a whole number, got"):
        Job.model_validate({**SETTINGS, "train": {"batch_per_worker": batch}})
