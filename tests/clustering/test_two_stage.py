import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from uldscale.clustering import kmeans
from uldscale.clustering.poses import Poses
from uldscale.clustering.two_stage import ClusterConfig, Clusters, assign_poses, label, single_stage
from uldscale.clustering.two_stage import two_stage as in_poses

LANDMARKS, POSES, IMAGES, SIZE = 5, 3, 180, 12
CONFIG = ClusterConfig(landmarks=LANDMARKS, poses=POSES)


def two_stage(descriptors, images, codes, config, seed, previous=None, previous_poses=None, places=None):
    """Poses, then landmarks in them: the clusters, and the pose of each image."""
    places = np.zeros((len(codes), 0, 2), np.float32) if places is None else places
    before = np.full(len(codes), -1) if previous_poses is None else previous_poses
    if config.align:
        poses = Poses.fit(codes, places, before, config.poses, seed=seed).of(codes, places)
    else:
        poses = kmeans.assign(codes, kmeans.fit(codes, config.poses, seed=seed))[0]
    return in_poses(descriptors, images, codes, poses, config, seed, previous), poses


class Scene:
    """Images in poses; a landmark looks alike in all poses and a little different in each. What is true is known."""

    def __init__(self, seed=0):
        generator = np.random.default_rng(seed)
        self.pose = generator.integers(0, POSES, IMAGES)
        self.pose_centres = 6 * np.eye(POSES, 4)
        self.codes = (self.pose_centres[self.pose] + 0.3 * generator.normal(size=(IMAGES, 4))).astype(np.float32)
        self.images = np.repeat(np.arange(IMAGES), 2 * LANDMARKS)
        self.truth = np.tile(np.arange(LANDMARKS), 2 * IMAGES)
        looks = 4 * np.eye(LANDMARKS, SIZE)
        in_pose = generator.normal(size=(POSES, LANDMARKS, SIZE)) * 0.5
        noise = 0.15 * generator.normal(size=(len(self.truth), SIZE))
        exact = looks[self.truth] + in_pose[self.pose[self.images], self.truth]
        self.descriptors = (exact + noise).astype(np.float32)

    def cluster(self, config=CONFIG, seed=0, **previous):
        return two_stage(self.descriptors, self.images, self.codes, config, seed, **previous)[0]

    def label(self, clusters):
        return label(self.descriptors, assign_poses(self.codes, clusters)[self.images], clusters)


def permuted(clusters, landmarks, poses):
    return Clusters(
        centroids=clusters.centroids[poses][:, landmarks],
        global_centroids=clusters.global_centroids[landmarks],
        pose_centroids=clusters.pose_centroids[poses],
    )


def assert_same(one, other):
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, other.arrays()[name], atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def clusters(scene):
    return scene.cluster()


def test_poses_and_landmarks_are_found(scene, clusters):
    assert clusters.centroids.shape == (POSES, LANDMARKS, SIZE)
    assert adjusted_rand_score(scene.pose, assign_poses(scene.codes, clusters)) == 1
    assert adjusted_rand_score(scene.truth, scene.label(clusters)[0]) == 1


def test_landmark_k_is_the_same_in_every_pose(scene, clusters):
    k = scene.label(clusters)[0]
    for landmark in range(LANDMARKS):
        assert len(set(scene.truth[k == landmark])) == 1


def test_without_alignment_it_is_not(scene):
    clusters = scene.cluster(CONFIG.updated(align=False))
    k, pose = scene.label(clusters)[0], scene.pose[scene.images]
    assert all(adjusted_rand_score(scene.truth[pose == p], k[pose == p]) == 1 for p in range(POSES))
    assert any(len(set(scene.truth[k == landmark])) > 1 for landmark in range(LANDMARKS))


def test_centroids_of_a_pose_are_its_own_means(scene, clusters):
    k, distances = scene.label(clusters)
    pose = assign_poses(scene.codes, clusters)[scene.images]
    for q in range(POSES):
        for landmark in range(LANDMARKS):
            mean = scene.descriptors[(pose == q) & (k == landmark)].mean(axis=0)
            np.testing.assert_allclose(clusters.centroids[q, landmark], mean, atol=1e-4)
    expected = np.linalg.norm(scene.descriptors - clusters.centroids[pose, k], axis=1)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


def test_next_round_keeps_all_numbers(scene, clusters):
    landmarks, poses = np.array([2, 4, 0, 1, 3]), np.array([1, 2, 0])
    before = np.argsort(poses)[assign_poses(scene.codes, clusters)]
    again = scene.cluster(seed=9, previous=permuted(clusters, landmarks, poses), previous_poses=before)
    assert_same(again, permuted(clusters, landmarks, poses))


def test_poses_keep_their_members_when_codes_have_moved(scene, clusters):
    before = assign_poses(scene.codes, clusters)
    moved = Scene()
    # each code lands where the codes of the next pose were
    moved.codes = (moved.codes - moved.pose_centres[moved.pose] + moved.pose_centres[(moved.pose + 1) % POSES]).astype(
        np.float32
    )
    again = moved.cluster(previous=clusters, previous_poses=before)
    assert (assign_poses(moved.codes, again) == before).all()
    np.testing.assert_allclose(again.centroids, clusters.centroids, atol=1e-4)


def test_poses_of_a_continuum_turn_with_the_code_space():
    # codes on a circle can be cut into arcs anywhere
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 600)
    config, images = ClusterConfig(landmarks=2, poses=3), np.arange(600)
    descriptors = np.repeat([[0.0], [9.0]], 300, axis=0).astype(np.float32)

    def codes(turn):
        return np.stack([np.cos(angle + turn), np.sin(angle + turn)], axis=1).astype(np.float32)

    first, before = two_stage(descriptors, images, codes(0), config, 0)
    _, after = two_stage(descriptors, images, codes(np.pi / 3), config, 1, previous=first, previous_poses=before)
    assert np.mean(after == before) > 0.99


def test_poses_are_those_of_places_and_codes_learn_them():
    # codes say nothing yet; a landmark in seven is missing
    scene, generator = Scene(), np.random.default_rng(1)
    places = np.stack([generator.uniform(0.2, 0.8, (LANDMARKS, 2)) for _ in range(POSES)])[scene.pose]
    places = (places + 0.01 * generator.normal(size=places.shape)).astype(np.float32)
    places[generator.random(places.shape[:2]) < 1 / 7] = np.nan
    codes = generator.normal(size=(IMAGES, 4)).astype(np.float32)
    clusters, poses = two_stage(scene.descriptors, scene.images, codes, CONFIG, 0, places=places)
    assert adjusted_rand_score(scene.pose, poses) > 0.95  # one image lacks four of five landmarks
    for pose in range(POSES):
        np.testing.assert_allclose(clusters.pose_centroids[pose], codes[poses == pose].mean(0), atol=1e-5)
    _, again = two_stage(scene.descriptors, scene.images, -codes, CONFIG, 0, clusters, poses, places)
    assert np.mean(again == poses) > 0.98
    _, of_codes = two_stage(scene.descriptors, scene.images, codes, CONFIG.updated(align=False), 0, places=places)
    assert adjusted_rand_score(scene.pose, of_codes) < 0.1


def test_a_pose_that_has_lost_its_images_stays_where_it_was(scene, clusters):
    known = np.where(assign_poses(scene.codes, clusters) == 2, 1, assign_poses(scene.codes, clusters))
    again = scene.cluster(previous=clusters, previous_poses=known)
    assert (again.pose_centroids[2] == clusters.pose_centroids[2]).all()


def test_images_without_previous_pose_do_not_disturb(scene, clusters):
    before = assign_poses(scene.codes, clusters)
    known = np.where(np.arange(IMAGES) % 4 == 0, -1, before)
    again = scene.cluster(previous=clusters, previous_poses=known)
    assert (assign_poses(scene.codes, again) == before).all()


def test_first_two_stage_round_starts_from_one_stage(scene):
    one = single_stage(scene.descriptors, CONFIG, seed=3)
    both = scene.cluster(previous=one)
    np.testing.assert_allclose(both.global_centroids, one.global_centroids, atol=1e-4)
    assert (scene.label(both)[0] == kmeans.assign(scene.descriptors, one.global_centroids)[0]).all()


def test_a_pose_with_few_keypoints_uses_the_global_centroids(scene):
    rare = scene.pose == 1
    keep = ~rare[scene.images] | (scene.images == np.flatnonzero(rare)[0])
    clusters, _ = two_stage(scene.descriptors[keep], scene.images[keep], scene.codes, CONFIG, 0)
    q = assign_poses(scene.codes, clusters)[rare][0]
    assert (clusters.centroids[q] == clusters.global_centroids).all()
    assert all((clusters.centroids[other] != clusters.global_centroids).any() for other in range(POSES) if other != q)


def test_a_landmark_that_a_pose_does_not_show_keeps_its_global_centroid(scene):
    hidden = (scene.truth == 3) & (scene.pose[scene.images] == 2)
    clusters, _ = two_stage(scene.descriptors[~hidden], scene.images[~hidden], scene.codes, CONFIG, 0)
    q = assign_poses(scene.codes, clusters)[scene.pose == 2][0]
    names = [
        kmeans.assign(scene.descriptors[scene.truth == k], clusters.global_centroids)[0][0] for k in range(LANDMARKS)
    ]
    assert (clusters.centroids[q, names[3]] == clusters.global_centroids[names[3]]).all()
    for landmark in (0, 1, 2, 4):
        members = scene.descriptors[(scene.truth == landmark) & (scene.pose[scene.images] == 2)]
        np.testing.assert_allclose(clusters.centroids[q, names[landmark]], members.mean(axis=0), atol=1e-4)


def test_a_cluster_that_crosses_to_another_landmark_falls_back():
    config = ClusterConfig(landmarks=2, poses=2)
    plain = np.repeat([0.0, 10.0], 600)
    odd = np.repeat([4.0, 5.5, 6.0, 20.0], [4, 10, 10, 10])
    descriptors = np.concatenate([plain, odd]).astype(np.float32)[:, None]
    codes = np.array([[0.0], [1.0]], dtype=np.float32)
    images = np.repeat([0, 1], [len(plain), len(odd)])
    clusters, _ = two_stage(descriptors, images, codes, config, seed=0)
    q = assign_poses(codes, clusters)[1]
    low = clusters.global_centroids.ravel().argmin()
    assert clusters.centroids[q, low] == clusters.global_centroids[low]
    assert clusters.centroids[q, 1 - low] == pytest.approx(20, abs=0.1)


def test_one_stage(scene):
    clusters = single_stage(scene.descriptors, CONFIG, seed=0)
    assert clusters.centroids.shape == (1, LANDMARKS, SIZE)
    assert clusters.pose_centroids is None
    assert (assign_poses(scene.codes, clusters) == 0).all()
    k, _ = scene.label(clusters)
    assert adjusted_rand_score(scene.truth, k) == 1
    order = np.array([4, 2, 0, 3, 1])
    previous = Clusters(clusters.centroids[:, order], clusters.global_centroids[order])
    again = single_stage(scene.descriptors, CONFIG, seed=8, previous=previous)
    np.testing.assert_allclose(again.centroids, previous.centroids, atol=1e-5)


def test_landmarks_take_the_number_of_the_nearest_of_last_round():
    # the first old centroid has no point left and is seeded again behind the second
    old = np.array([[0.0], [10.0]], dtype=np.float32)
    descriptors = np.repeat([[6.0], [14.5]], 20, axis=0).astype(np.float32)
    clusters = single_stage(descriptors, ClusterConfig(landmarks=2), seed=0, previous=Clusters(old[None], old))
    assert clusters.global_centroids.ravel().tolist() == [6, 14.5]


def test_seed_decides_everything(scene, clusters):
    assert all((array == clusters.arrays()[name]).all() for name, array in scene.cluster().arrays().items())


@pytest.mark.parametrize("stages", [1, 2])
def test_arrays_round_trip(scene, clusters, stages):
    kept = clusters if stages == 2 else single_stage(scene.descriptors, CONFIG, seed=0)
    back = Clusters.from_arrays(kept.arrays())
    assert back.arrays().keys() == kept.arrays().keys()
    assert_same(back, kept)
    assert (back.pose_centroids is None) == (stages == 1)


def test_another_number_of_landmarks_than_last_round_is_refused(scene, clusters):
    with pytest.raises(ValueError, match="init has shape"):
        scene.cluster(ClusterConfig(landmarks=LANDMARKS + 1, poses=POSES), previous=clusters)
