"""Training and pseudo-labels: pace, losses, checkpoints, rounds, and what comes out."""

from frame import Row, framed
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import Query, bars, figures, last, lines, newest, of_run, quantile, shares


def training() -> Dashboard:
    """The dashboard."""
    about = "How fast training is, whether it learns, how its pseudo-labels settle, and how good the result is."
    return framed("uldscale-training", "Training and labels", about, pace(), learning(), rounds(), labels(), results())


def pace() -> Row:
    """How fast it is."""
    steps = of_run("train_step_seconds_bucket")
    return Row(7, [
        lines("Time of a step", "Of the steps since the last one in the log.", "s",
              Query(quantile(0.5, steps, "stage"), "{{stage}}: half"),
              Query(quantile(0.95, steps, "stage"), "{{stage}}: 95 %")),
        lines("Time by part", "Data over a half: the store is read too slowly.", "percentunit",
              Query(shares(of_run("train_seconds_total"), "part"), "{{part}}"), stacked=True),
        lines("Checkpoints", "To write one; a spot node that goes leaves less than two minutes.", "s",
              Query(quantile(0.5, of_run("checkpoint_seconds_bucket"), "run"), "half"),
              Query(quantile(0.95, of_run("checkpoint_seconds_bucket"), "run"), "95 %"),
              limits=((None, "transparent"), (30, "orange"), (90, "red"))),
        figures("Size of a checkpoint", "Of the last one.", "bytes", Query(last(of_run("checkpoint_bytes"), "run"))),
    ])  # fmt: skip


def learning() -> Row:
    """Whether it learns."""
    return Row(7, [
        lines("Losses", "Each part, and their weighted sum as `loss`.", "short",
              Query(newest(of_run("train_loss"), "stage", "loss"), "{{stage}}: {{loss}}")),
        lines("Norm of the gradient", "Before it is clipped.", "short",
              Query(newest(of_run("train_gradient_norm"), "stage"), "{{stage}}")),
        lines("Learning rate", "Warm-up, then what the stage says.", "short",
              Query(newest(of_run("train_learning_rate"), "stage"), "{{stage}}")),
    ])  # fmt: skip


def rounds() -> Row:
    """How rounds of labels are made."""
    versions = newest(of_run("label_version"), "rank")
    return Row(7, [
        lines("Round", "Of the service, and on which workers train: all should be on the same.", "none",
              Query(newest(of_run("relabel_round"), "run"), "service"),
              Query(f"min({versions})", "oldest of the workers"), Query(f"max({versions})", "newest of the workers")),
        lines("Time of a round", "Of the service, from all keypoints to labels.", "s",
              Query(quantile(0.5, of_run("relabel_seconds_bucket"), "stage"), "{{stage}}: half"),
              Query(quantile(0.95, of_run("relabel_seconds_bucket"), "stage"), "{{stage}}: 95 %")),
        lines("Rounds by part", "describe, send and pull are of the workers; fit, assign and write of the service.", "percentunit",
              Query(shares(of_run("relabel_part_seconds_total"), "part"), "{{part}}"), stacked=True),
    ])  # fmt: skip


def labels() -> Row:
    """Whether the labels settle."""
    return Row(7, [
        lines("Churn", "Share of labels that changed since the round before.", "percentunit",
              Query(newest(of_run("label_churn_ratio"), "stage"), "{{stage}}")),
        lines("Distance", "Of labelled descriptors to their centroid; inertia is its mean square.", "short",
              Query(newest(of_run("label_distance"), "stage"), "{{stage}}: distance"),
              Query(newest(of_run("label_inertia"), "stage"), "{{stage}}: inertia")),
        lines("An image has", "Keypoints that the detector found, and labels made of them.", "short",
              Query(newest(of_run("keypoints_per_image"), "stage"), "{{stage}}: keypoints"),
              Query(newest(of_run("labels_per_image"), "stage"), "{{stage}}: labels")),
    ])  # fmt: skip


def results() -> Row:
    """What comes out."""
    return Row(8, [
        bars("Images by landmark", "A landmark on few images is of little use.", "none",
             Query(last(of_run("label_cluster_images"), "stage", "landmark"), "{{stage}}: {{landmark}}")),
        bars("Images by pose", "Poses should share the images.", "none",
             Query(last(of_run("pose_images"), "stage", "pose"), "{{stage}}: {{pose}}")),
        bars("Landmarks found", "Share of the landmarks of the test images.", "percentunit",
             Query(last(of_run("detection_ratio"), "method"), "{{method}}")),
        bars("Consistency", "How far landmarks move against a similarity of the image, in pixels of 128.", "none",
             Query(last(of_run("consistency_pixels"), "method"), "{{method}}")),
    ])  # fmt: skip
