"""All metrics of a run, each declared here, once; what Prometheus sees of them has the label `run`, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One declared metric."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


_STAGES = "index, codec, extract, zero_shot, a stage of training, relabel, locate or evaluate"

METRICS: Mapping[str, Metric] = {
    # How far a run is.
    "uldscale_run_info": Metric(
        "gauge",
        "1; what runs, as labels; submission: the id that `ray job submit` gave it.",
        ("version", "data", "submission"),
    ),
    "uldscale_stage_active": Metric("gauge", f"1 while a stage is at work, else 0; stage: {_STAGES}.", ("stage",)),
    "uldscale_stage_done": Metric("gauge", "Images, shards or steps of a stage that are done.", ("stage",)),
    "uldscale_stage_size": Metric("gauge", "Images, shards or steps of a stage.", ("stage",)),
    "uldscale_stage_left_seconds": Metric("gauge", "Time that a stage will still take at its pace so far.", ("stage",)),
    "uldscale_waiting_seconds": Metric(
        "gauge", "How long a role has waited for resources; 0 when it has them.", ("role",)
    ),
    "uldscale_output_free_bytes": Metric("gauge", "Free bytes on the disk of the run folder."),
    "uldscale_output_size_bytes": Metric("gauge", "Size in bytes of the disk of the run folder."),
    # Actors and what they work on; role: extract or locate.
    "uldscale_actors": Metric(
        "gauge", "Actors by state: waiting (for a place), setup, idle or working.", ("role", "state")
    ),
    "uldscale_items_queued": Metric("gauge", "Items (shards, say) that no actor has yet.", ("role",)),
    "uldscale_items_working": Metric("gauge", "Items in the hands of actors.", ("role",)),
    "uldscale_item_retries_total": Metric("counter", "Items that are tried again after a failure.", ("role",)),
    "uldscale_items_given_up_total": Metric("counter", "Items that failed too often.", ("role",)),
    "uldscale_actors_lost_total": Metric(
        "counter", "Actors that were replaced; cause: error, late, process (died) or node (lost).", ("role", "cause")
    ),
    # Index and extraction.
    "uldscale_images_quarantined": Metric("gauge", "Images in the index that cannot be used."),
    "uldscale_images_extracted_total": Metric("counter", "Images whose features were written."),
    "uldscale_extract_written_bytes_total": Metric("counter", "Bytes of features written to the store."),
    "uldscale_extract_seconds_total": Metric(
        "counter",
        "Time of all actors by part: decode, views, model (with the codec), write, or idle (model waits).",
        ("part",),
    ),
    "uldscale_shards_committed_total": Metric("counter", "Shards of the feature store written and committed."),
    "uldscale_shards_missing": Metric("gauge", "Shards that are not committed yet."),
    "uldscale_shard_seconds": Metric("histogram", "Time to compute and write one shard."),
    "uldscale_batches_halved_total": Metric("counter", "Times that an actor halved its batch for want of memory."),
    "uldscale_codec_error_ratio": Metric("gauge", "Share of the variance of a tap that the codec loses.", ("tap",)),
    # Training; stage: one of its stages.
    "uldscale_train_step_seconds": Metric("histogram", "Time of one optimizer step.", ("stage",)),
    "uldscale_train_seconds_total": Metric(
        "counter",
        "Time of all workers by part: data (wait), compute, gather, barrier, relabel or checkpoint.",
        ("stage", "part"),
    ),
    "uldscale_train_read_bytes_total": Metric(
        "counter", "Bytes of features that the batches of all workers hold.", ("stage",)
    ),
    "uldscale_train_loss": Metric("gauge", "Loss of the last logged step.", ("stage", "loss")),
    "uldscale_train_gradient_norm": Metric(
        "gauge", "Norm of the gradient in the last logged step, before it is clipped.", ("stage",)
    ),
    "uldscale_train_learning_rate": Metric("gauge", "Learning rate of the last logged step.", ("stage",)),
    "uldscale_train_restarts_total": Metric("counter", "Restarts of all workers after some were lost."),
    "uldscale_checkpoint_seconds": Metric("histogram", "Time to write one checkpoint."),
    "uldscale_checkpoint_bytes": Metric("gauge", "Size of the last checkpoint."),
    # Rounds of pseudo-labels.
    "uldscale_label_version": Metric(
        "gauge", "Round of pseudo-labels that a worker trains on, -1 before the first.", ("rank",)
    ),
    "uldscale_relabel_round": Metric("gauge", "Last round of pseudo-labels that was made."),
    "uldscale_relabel_seconds": Metric("histogram", "Time to make one round of pseudo-labels.", ("stage",)),
    "uldscale_relabel_part_seconds_total": Metric(
        "counter",
        "Time of rounds by part, of all workers: describe, send, pull, assign, write; and of the service: fit.",
        ("part",),
    ),
    "uldscale_label_churn_ratio": Metric("gauge", "Share of labels that changed since the round before.", ("stage",)),
    "uldscale_label_distance": Metric("gauge", "Mean distance of labelled descriptors to their centroid.", ("stage",)),
    "uldscale_label_inertia": Metric(
        "gauge", "Mean squared distance of labelled descriptors to their centroid.", ("stage",)
    ),
    "uldscale_keypoints_per_image": Metric("gauge", "Keypoints found per image in the last round.", ("stage",)),
    "uldscale_labels_per_image": Metric("gauge", "Labels per image in the last round.", ("stage",)),
    "uldscale_label_cluster_images": Metric(
        "gauge", "Images that have a landmark in the last round.", ("stage", "landmark")
    ),
    "uldscale_pose_images": Metric("gauge", "Images in a pose in the last round.", ("stage", "pose")),
    # Results.
    "uldscale_nme_percent": Metric("gauge", "NME in percent.", ("method", "protocol", "direction")),
    "uldscale_detection_ratio": Metric("gauge", "Share of landmarks that are found.", ("method",)),
    "uldscale_consistency_pixels": Metric(
        "gauge", "Consistency under similarities, pixels of a crop of 128.", ("method",)
    ),
}
