"""Extraction: how fast features come, what the actors do, what goes wrong with them."""

from frame import Row, framed
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import (
    NONE_IS_GOOD,
    Query,
    bars,
    figures,
    last,
    lines,
    newest,
    of_run,
    quantile,
    rate,
    shares,
    total,
)


def extraction() -> Dashboard:
    """The dashboard."""
    about = "How fast features come, what the actors do, and what goes wrong with them."
    return framed("uldscale-extraction", "Extraction", about, now(), pace(), actors(), failures())


def now() -> Row:
    """How far it is."""
    return Row(4, [
        figures("Shards missing", "Shards of the feature store that are not committed.", "none",
                Query(last(of_run("shards_missing"), "run"))),
        figures("Images quarantined", "Images that cannot be used; the run folder's quarantined.json says why.", "none",
                Query(last(of_run("images_quarantined"), "run")), limits=((None, "green"), (1, "orange"))),
        figures("Batches halved", "Each costs a try; set the batch that the log names.", "none",
                Query(f"sum({of_run('batches_halved_total')}) or vector(0)"), limits=((None, "green"), (1, "orange"))),
    ])  # fmt: skip


def pace() -> Row:
    """How fast it is."""
    shards = of_run("shard_seconds_bucket")
    return Row(8, [
        lines("Images", "Images whose features were written, a second.", "short",
              Query(rate(of_run("images_extracted_total"), "run"), "images")),
        lines("Shards", "Shards of the feature store that were committed, a second.", "short",
              Query(rate(of_run("shards_committed_total"), "run"), "shards")),
        lines("Time of a shard", "From reading images to the commit.", "s",
              Query(quantile(0.5, shards), "half"), Query(quantile(0.95, shards), "95 %")),
    ])  # fmt: skip


def actors() -> Row:
    """What the actors do; also those of locate, which work in the same way."""
    return Row(8, [
        lines("Time by part", "Idle is a model that waits: give the actors more CPUs or threads.", "percentunit",
              Query(shares(of_run("extract_seconds_total"), "part"), "{{part}}"), stacked=True),
        lines("Actors", "Waiting is for a place in the cluster, setup is loading the model.", "none",
              Query(newest(of_run("actors"), "role", "state"), "{{role}}: {{state}}"), stacked=True),
        lines("Items", "Shards of extraction, chunks of rows of locate.", "none",
              Query(newest(of_run("items_queued"), "role"), "{{role}}: queued"),
              Query(newest(of_run("items_working"), "role"), "{{role}}: working")),
    ])  # fmt: skip


def failures() -> Row:
    """What goes wrong, and what is lost on the way."""
    return Row(8, [
        lines("Retries", "Items that are tried again, and those that failed too often.", "none",
              Query(total(of_run("item_retries_total"), "role"), "{{role}}: tried again"),
              Query(total(of_run("items_given_up_total"), "role"), "{{role}}: given up"),
              limits=NONE_IS_GOOD),
        lines("Lost actors", "error: an exception; late: over runtime.deadline_seconds; process: it died; node: its node went.",
              "none", Query(total(of_run("actors_lost_total"), "role", "cause"), "{{role}}: {{cause}}")),
        bars("Codec error", "Share of a tap's variance that the codec loses; more channels lose less.", "percentunit",
             Query(last(of_run("codec_error_ratio"), "tap"), "{{tap}}"),
             limits=((None, "green"), (0.2, "orange"), (0.4, "red"))),
    ])  # fmt: skip
