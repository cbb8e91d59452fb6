"""One contract for every library that iterates, then what is ours alone."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from uldscale.clustering import kmeans, lloyd, on_gpu


def blobs(per_blob=60, count=6, size=8, seed=0):
    generator = np.random.default_rng(seed)
    centres = 10 * np.eye(count, size)
    truth = np.repeat(np.arange(count), per_blob)
    points = centres[truth] + 0.3 * generator.normal(size=(len(truth), size))
    order = generator.permutation(len(truth))
    return points[order].astype(np.float32), truth[order], centres


@pytest.fixture(params=["cpu", "gpu"])
def library(request, monkeypatch):
    if request.param == "gpu" and not on_gpu.available():
        pytest.skip("cuML is not installed or no CUDA device is visible")
    monkeypatch.setattr(on_gpu, "available", lambda: request.param == "gpu")
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


@pytest.mark.filterwarnings("error")
def test_collapsed_points_are_no_error(library):
    points = np.full((20, 3), 0.25, dtype=np.float32)
    assert np.isfinite(kmeans.fit(points, 4, seed=0)).all()


def test_fewer_distinct_points_than_clusters_end_at_once(library, monkeypatch):
    """Their means are beside them by rounding."""
    distinct = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    points, steps, step = np.repeat(distinct, 100, axis=0), [], lloyd.Cloud.step
    monkeypatch.setattr(lloyd.Cloud, "step", lambda *arguments: (steps.append(0), step(*arguments))[1])
    centroids = kmeans.fit(points, 10, seed=0, n_init=1)
    assert len(steps) < 10
    _, distances = kmeans.assign(points, centroids)
    assert distances.max() < 1e-5


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


def overlapping(count, size=16, clusters=12, seed=0):
    """Unit vectors around centres that are no farther apart than the clusters are wide."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, size))
    points = centres[generator.integers(clusters, size=count)] + generator.normal(size=(count, size))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_number_of_threads_does_not_change_a_bit():
    points = overlapping(2 * lloyd.FIRST_SAMPLE + 5)
    runs = []
    for threads in (1, 2, 3, 2):
        with threadpool_limits(limits=threads):
            centroids = kmeans.fit(points, 10, seed=0, n_init=2)
            runs.append((centroids.tobytes(), *(part.tobytes() for part in kmeans.assign(points, centroids))))
    assert runs.count(runs[0]) == len(runs)


@pytest.mark.parametrize("k", [10, 40])
def test_samples_that_grow_end_where_all_points_do(k, library, monkeypatch):
    monkeypatch.setattr(lloyd, "FIRST_SAMPLE", 5000)
    points = overlapping(60_000)
    centroids = kmeans.fit(points, k, seed=0)
    theirs = KMeans(k, n_init=4, random_state=0).fit(points).inertia_
    assert (kmeans.assign(points, centroids)[1].astype(np.float64) ** 2).sum() < 1.001 * theirs


def test_all_points_count_after_samples(library, monkeypatch):
    monkeypatch.setattr(lloyd, "FIRST_SAMPLE", 100)
    points, truth, _ = blobs(per_blob=700)
    means = np.array([points[truth == j].mean(axis=0) for j in range(6)])
    centroids = kmeans.fit(points, 6, seed=0)
    nearest = np.linalg.norm(centroids[:, None] - means, axis=-1).argmin(axis=1)
    np.testing.assert_allclose(centroids, means[nearest], atol=1e-5)


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


class NoDevice(Exception):
    """Stands for cupy's CUDARuntimeError."""


@pytest.mark.parametrize(("devices", "expected"), [(2, True), (0, False), (NoDevice(), False)])
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
    assert on_gpu.available() == expected


def test_without_cuml_no_device_is_looked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not on_gpu.available()
