"""What is said of a round of labels."""

import numpy as np

from uldscale.training.tally import churn

POINTS = np.full((4, 3, 2), 0.5, np.float32)


def test_churn_counts_labels_that_came_went_or_moved() -> None:
    moved, fewer, wider = POINTS.copy(), POINTS.copy(), np.pad(POINTS, ((0, 0), (0, 1), (0, 0)), constant_values=0.5)
    moved[0, 0, 0] += 0.2
    moved[0, 1, 0] += 0.04
    fewer[2:] = np.nan
    assert churn(POINTS, POINTS).tolist() == [0, 12]
    assert churn(moved, POINTS).tolist() == [1, 12]
    assert churn(fewer, POINTS).tolist() == churn(POINTS, fewer).tolist() == [6, 12]
    assert churn(wider, POINTS).tolist() == churn(POINTS, wider).tolist() == [4, 16]
    assert churn(POINTS, POINTS[:, :0]).tolist() == [12, 12]
