"""What a pose hides has low scores there, whatever the score of one image; probabilities are those of generated faces."""

import numpy as np
import pytest
import torch

from uldscale.models.visibility import MIN_MEMBERS, Visibility


def fitted(by_pose: list[list[float]], images: int = 40, spread: float = 0.05) -> Visibility:
    """Of so many images in each pose with scores (Q, K), up to a Gaussian of their logarithms."""
    random, poses = np.random.default_rng(0), np.arange(len(by_pose)).repeat(images)
    logs = np.log(np.array(by_pose))[poses] + spread * random.standard_normal((len(poses), len(by_pose[0])))
    return Visibility.fit(np.exp(logs).astype(np.float32), poses, len(by_pose))


def test_a_landmark_is_hidden_in_the_pose_where_its_scores_are_low() -> None:
    visibility = fitted([[0.8, 0.8], [0.8, 0.5]])
    both = visibility(torch.tensor([[0.8, 0.65], [0.8, 0.65]]), torch.tensor([0, 1]))
    assert torch.allclose(both[:, 0], torch.tensor(0.88), atol=0.02), "as likely as anywhere"
    assert both[0, 1] > 0.9 > 0.5 > both[1, 1], "the same score, in a pose that shows it and in one that hides it"


def test_its_own_score_counts_a_little() -> None:
    visibility = fitted([[0.8], [0.8]])
    low, usual, high = visibility(torch.tensor([[0.4], [0.8], [0.9]]), torch.zeros(3, dtype=torch.int64))[:, 0]
    assert 0 < low < usual < high < 1


def test_a_missing_landmark_is_not_seen() -> None:
    assert fitted([[0.8, 0.7]])(torch.tensor([[0.8, 0.0]]), torch.tensor([0]))[0, 1] == 0


def test_missing_scores_and_few_members_say_nothing() -> None:
    scores = np.full((40, 2), 0.8, np.float32)
    scores[-(MIN_MEMBERS - 1) :] = 0.1, 0.0
    poses = np.arange(40) >= 40 - (MIN_MEMBERS - 1)
    visibility = Visibility.fit(scores, poses.astype(np.int64), 2)
    assert torch.equal(visibility.by_pose[1], visibility.means)
    assert visibility.means.tolist() == pytest.approx([np.log(0.8) * 31 / 40 + np.log(0.1) * 9 / 40, np.log(0.8)])


def test_nothing_is_known() -> None:
    visibility = Visibility.fit(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 2)
    found = visibility(torch.tensor([[0.9, 0.2, 0.0]]), torch.tensor([1]))
    assert found[0].tolist() == pytest.approx([0.88, 0.88, 0], abs=0.01)
