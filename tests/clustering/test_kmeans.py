"""One contract for every library that iterates, then what is ours alone."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from uldscale.clustering import kmeans


def blobs(per_blob=60, count=6, size=8, seed=0):
    generator = np.random.default_rng(seed)
    centres = 10 * np.eye(count, size)
    truth = np.repeat(np.arange(count), per_blob)
    points = centres[truth] + 0.3 * generator.normal(size=(len(truth), size))
    order = generator.permutation(len(truth))
    return points[order].astype(np.float32), truth[order], centres


@pytest.fixture(params=["sklearn", "cuml"])
def library(request, monkeypatch):
    if request.param == "cuml" and kmeans.backend() != "cuml":
        pytest.skip("cuML is not installed or no CUDA device is visible")
    monkeypatch.setattr(kmeans, "backend", lambda: request.param)
    return request.param


def test_finds_blobs(library):
    points, truth, centres = blobs()
    centroids = kmeans.fit(points, 6, seed=1)
    labels, distances = kmeans.assign(points, centroids)
    assert adjusted_rand_score(truth, labels) == 1
    assert centroids.dtype == np.float32
    assert distances.max() < 2
    nearest = np.linalg.norm(centroids[:, None] - centres, axis=-1).argmin(axis=1)
    assert sorted(nearest) == list(range(6))


def test_start_decides_the_numbers(library):
    points, _, centres = blobs()
    for order in (np.arange(6), np.array([3, 1, 5, 0, 2, 4])):
        centroids = kmeans.fit(points, 6, seed=1, init=centres[order].astype(np.float32))
        assert (np.linalg.norm(centroids - centres[order], axis=1) < 0.3).all()


def test_known_answer(library):
    points = np.array([[0], [1], [10], [11]], dtype=np.float32)
    assert kmeans.fit(points, 2, seed=0, init=np.array([[0.0], [4.0]])).ravel().tolist() == [0.5, 10.5]


def test_start_is_left_alone(library):
    points, _, centres = blobs()
    start = (centres + 1).astype(np.float32)
    before = start.copy()
    kmeans.fit(points, 6, seed=0, init=start)
    assert (start == before).all()


def test_empty_clusters_are_seeded_again(library):
    points, truth, centres = blobs()
    start = centres.astype(np.float32)
    start[[2, 4]] = 1000
    labels, _ = kmeans.assign(points, kmeans.fit(points, 6, seed=0, init=start))
    assert adjusted_rand_score(truth, labels) == 1


def test_empty_clusters_are_seeded_again_where_the_library_does_not(monkeypatch):
    def keep_empty(points, centroids):
        labels, _ = kmeans.assign(points, centroids)
        means = [
            points[labels == j].mean(axis=0) if (labels == j).any() else centroids[j] for j in range(len(centroids))
        ]
        return np.array(means, dtype=np.float32)

    monkeypatch.setattr(kmeans, "_iterate", keep_empty)
    points, truth, centres = blobs()
    start = centres.astype(np.float32)
    start[[2, 4]] = 1000
    labels, _ = kmeans.assign(points, kmeans.fit(points, 6, seed=0, init=start))
    assert len(np.unique(labels)) == 6


@pytest.mark.filterwarnings("error")
def test_collapsed_points_are_no_error(library):
    points = np.full((20, 3), 0.25, dtype=np.float32)
    assert np.isfinite(kmeans.fit(points, 4, seed=0)).all()


def test_seed_decides_everything(library):
    points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    runs = [kmeans.fit(points, 9, seed=seed, n_init=1) for seed in (5, 5, 6)]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5)
    assert not np.allclose(runs[0], runs[2], rtol=1e-2)


def test_more_starts_never_do_worse(library):
    points = np.random.default_rng(3).normal(size=(200, 3)).astype(np.float32)
    for seed in range(4):
        one, six = (kmeans.assign(points, kmeans.fit(points, 12, seed=seed, n_init=n))[1] for n in (1, 6))
        assert (one**2).sum() * (1 + 1e-6) >= (six**2).sum()


def test_number_of_threads_does_not_change_a_bit():
    points = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)
    runs = []
    for threads in (1, 2, 2):
        with threadpool_limits(limits=threads):
            runs.append(kmeans.fit(points, 10, seed=0, n_init=1).tobytes())
    assert runs[0] == runs[1] == runs[2]


def test_sample_is_drawn_with_the_seed():
    points = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    drawn = points[np.sort(np.random.default_rng(7).choice(3000, 500, replace=False))]
    whole = kmeans.fit(points, 5, seed=7, n_init=1, sample=500)
    assert (whole == kmeans.fit(drawn, 5, seed=7, n_init=1)).all()
    assert (whole != kmeans.fit(points, 5, seed=7, n_init=1)).any()


@pytest.mark.parametrize("chunk", [7, 40, 1000])
def test_assign_against_a_plain_loop(chunk, monkeypatch):
    monkeypatch.setattr(kmeans, "CHUNK_ROWS", chunk)
    generator = np.random.default_rng(1)
    points, centroids = generator.normal(size=(40, 5)).astype(np.float32), generator.normal(size=(6, 5))
    labels, distances = kmeans.assign(points, centroids.astype(np.float32))
    for point, label, distance in zip(points, labels, distances, strict=True):
        every = [float(np.sqrt(((point - centroid) ** 2).sum())) for centroid in centroids]
        assert label == int(np.argmin(every))
        assert distance == pytest.approx(min(every), rel=1e-5)
    assert labels.dtype == np.int32
    assert distances.dtype == np.float32


def test_assign_gives_ties_to_the_lower_label():
    labels, _ = kmeans.assign(np.zeros((3, 2), dtype=np.float32), np.array([[1, 0], [0, 1], [0, -1]], dtype=np.float32))
    assert labels.tolist() == [0, 0, 0]


def test_distances_of_unit_vectors_are_exact_near_zero():
    points = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert (kmeans.assign(points, points)[1] == 0).all()


@pytest.mark.parametrize(
    ("points", "init", "message"),
    [
        (np.zeros((7, 3)), None, r"n >= k = 10, got \(7, 3\)"),
        (np.zeros(30), None, r"shape \(n, d\)"),
        (np.full((12, 3), np.nan), None, "12 of 12 points hold NaN"),
        (np.zeros((12, 3)), np.zeros((9, 3)), r"init has shape \(9, 3\), wanted \(10, 3\)"),
    ],
)
def test_refuses(points, init, message):
    with pytest.raises(ValueError, match=message):
        kmeans.fit(points.astype(np.float32), 10, seed=0, init=init)


def test_assign_refuses_nan():
    points = np.zeros((4, 2), dtype=np.float32)
    points[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 points hold NaN"):
        kmeans.assign(points, np.zeros((1, 2), dtype=np.float32))


class NoDevice(Exception):
    """Stands for cupy's CUDARuntimeError."""


@pytest.mark.parametrize(("devices", "expected"), [(2, "cuml"), (0, "sklearn"), (NoDevice(), "sklearn")])
def test_cuml_needs_a_device(devices, expected, monkeypatch):
    def count():
        if isinstance(devices, Exception):
            raise devices
        return devices

    cuml, cupy = types.ModuleType("cuml"), types.ModuleType("cupy")
    cuml.__spec__ = importlib.machinery.ModuleSpec("cuml", None)
    runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=NoDevice)
    cupy.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cuml", cuml)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert kmeans.backend() == expected


def test_without_cuml_scikit_learn_iterates(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert kmeans.backend() == "sklearn"
