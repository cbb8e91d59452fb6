import numpy as np
import pytest

from uldscale.evaluation.protocols import normalisers, protocols_for, select_points

KTL_RIDGES = {"5pt-all-ktl": (0.001, 0.1), "68pt-300-lids-ktl": (0.001, 0.1), "68pt-300-box-ktl": (0.1, 0.1)}


@pytest.mark.parametrize(
    ("num_points", "expected"),
    [
        (
            68,
            [
                ("68pt-300", 300, 10, "interocular_36_45"),
                ("5pt-all", None, 1, "eye_centres"),
                ("68pt-300-lids", 300, 10, "interocular_41_46"),
                ("68pt-300-box", 300, 10, "box"),
                ("5pt-all-ktl", None, 1, "eye_centres"),
                ("68pt-300-lids-ktl", 300, 10, "interocular_41_46"),
                ("68pt-300-box-ktl", 300, 10, "box"),
            ],
        ),
        (
            5,
            [
                ("5pt-300", 300, 10, "eye_centres"),
                ("5pt-all", None, 1, "eye_centres"),
                ("5pt-300-box", 300, 10, "box"),
                ("5pt-all-box", None, 1, "box"),
                ("5pt-all-ktl", None, 1, "eye_centres"),
            ],
        ),
        (
            9,
            [
                ("9pt-300", 300, 10, "eye_centres"),
                ("9pt-all", None, 1, "eye_centres"),
                ("9pt-300-box", 300, 10, "box"),
                ("9pt-all-box", None, 1, "box"),
            ],
        ),
        (98, [("98pt-300", 300, 10, "interocular_60_72"), ("98pt-all", None, 1, "interocular_60_72")]),
        (21, [("21pt-300", 300, 10, "box"), ("21pt-all", None, 1, "box")]),
    ],
)
def test_protocols(num_points, expected):
    found = [(p.name, p.num_train, p.repeats, p.normaliser) for p in protocols_for(num_points)]
    assert found == expected
    for protocol in protocols_for(num_points):
        ridges = KTL_RIDGES.get(protocol.name, (0.01, 0.01))
        assert (protocol.ridge_forward, protocol.ridge_backward) == ridges


def test_five_of_68_points():
    truth = np.random.default_rng(0).uniform(0, 128, (3, 68, 2))
    truth[1, 38] = np.nan
    five = select_points(truth, protocols_for(68)[1])
    assert five.shape == (3, 5, 2)
    np.testing.assert_allclose(five[0, 0], sum(truth[0, i] for i in range(36, 42)) / 6)
    np.testing.assert_allclose(five[:, 1], truth[:, 42:48].mean(axis=1))
    assert (five[:, 2:] == truth[:, [30, 48, 54]]).all()
    assert np.isnan(five[1, 0]).all()
    assert np.isfinite(five[1, 1:]).all()


def test_points_that_are_already_the_protocols_stay():
    for num_points in (5, 9, 68):
        truth = np.random.default_rng(0).uniform(0, 128, (2, num_points, 2))
        assert (select_points(truth, protocols_for(num_points)[0]) == truth).all()


def test_five_points_of_something_else_are_refused():
    with pytest.raises(ValueError, match="5pt-all wants 68 or 5 annotated points, got 9"):
        select_points(np.zeros((2, 9, 2)), protocols_for(68)[1])


@pytest.mark.filterwarnings("error")
def test_normalisers():
    truth = np.zeros((2, 68, 2))
    truth[:, 45], truth[:, 46], truth[:, 1] = (3, 4), (6, 8), (0, 2)
    truth[:, 40] = (1, 1)
    truth[1, 1] = np.nan
    assert normalisers(truth, "interocular_36_45").tolist() == [5, 5]
    assert normalisers(truth, "interocular_41_46").tolist() == [10, 10]
    assert normalisers(truth, "eye_centres")[0] == 2
    assert np.isnan(normalisers(truth, "eye_centres")[1])
    np.testing.assert_allclose(normalisers(truth, "box"), np.sqrt(48))
    assert np.isnan(normalisers(np.full((1, 9, 2), np.nan), "box")[0])
