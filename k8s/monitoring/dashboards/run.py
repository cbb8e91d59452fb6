"""The page for whoever answers for a run: six questions, from the top to the bottom."""

from frame import Row, framed
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import (
    MUCH_IS_GOOD,
    NONE_IS_GOOD,
    Query,
    bars,
    figures,
    last,
    lines,
    newest,
    of_cluster,
    of_run,
    periods,
    rate,
    shares,
    total,
)

ACTIVE = f"{newest(of_run('stage_active'), 'stage')} == 1"
SHARE = f"{newest(of_run('stage_done'), 'stage')} / {newest(of_run('stage_size'), 'stage')}"
LEFT = f"{newest(of_run('stage_left_seconds'), 'stage')} and ({ACTIVE})"
GIVEN_UP = total(of_run("items_given_up_total"), "role")
WAITS = newest(of_run("waiting_seconds"), "role")
NME = of_run("nme_percent", 'direction="forward"')
FREE = f"min({of_run('output_free_bytes')}) / max({of_run('output_size_bytes')})"
USED = of_cluster("resources", 'State="USED"', 'Name=~"CPU|GPU"')


def run() -> Dashboard:
    """The dashboard."""
    about = "Does it move, when does it end, what holds it up, what failed, is it any good, what does it use?"
    return framed("uldscale-run", "Run", about, now(), moves(), holds(), failed(), good(), uses())


def now() -> Row:
    """All questions in figures."""
    return Row(4, [
        figures(
            "Stage", "Stages that are at work, and how much of each is done.", "percentunit",
            Query(f"{SHARE} and ({ACTIVE})", "{{stage}}"), none="none",
        ),
        figures("Left", "Time that the stages at work will take at their pace so far.", "s", Query(LEFT, "{{stage}}")),
        figures(
            "Waiting", "Roles that have no place in the cluster, and for how long.", "s",
            Query(f"{WAITS} > 0", "{{role}}"), limits=((None, "orange"), (900, "red")), none="none",
        ),
        figures(
            "Given up", "Shards and other items that failed too often. With any, the run ends incomplete.", "none",
            Query(f"sum({GIVEN_UP}) or vector(0)"), limits=NONE_IS_GOOD,
        ),
        figures(
            "Best NME", "Forward error of the best method, the lowest of all protocols.", "percent",
            Query(f"min({last(NME, 'method', 'protocol')})"), none="not yet",
        ),
        figures(
            "Disk", "Share of the run folder's disk that is free.", "percentunit", Query(FREE), limits=MUCH_IS_GOOD,
        ),
    ])  # fmt: skip


def moves() -> Row:
    """Does it move, and when does it end?"""
    return Row(7, [
        lines("Done", "Share of each stage that is done. A flat line under 100 % is a stage that stands.",
              "percentunit", Query(SHARE, "{{stage}}")),
        periods("At work", "When which stage was at work; relabel is part of a stage of training.",
                Query(newest(of_run("stage_active"), "stage"), "{{stage}}"),
                limits=((None, "transparent"), (1, "green"))),
        lines("Time left", "Of the stages at work. A line that rises is a stage that becomes slower.", "s",
              Query(LEFT, "{{stage}}")),
    ])  # fmt: skip


def holds() -> Row:
    """What holds it up?"""
    return Row(7, [
        lines("Extraction: time of actors", "Idle is a model that waits for images, decode and views are CPU work.",
              "percentunit", Query(shares(of_run("extract_seconds_total"), "part"), "{{part}}"), stacked=True),
        lines("Training: time of workers", "Data is waiting for features, barrier is waiting for the slowest worker.",
              "percentunit", Query(shares(of_run("train_seconds_total"), "part"), "{{part}}"), stacked=True),
        lines("Waits for resources", "How long roles have had no place in the cluster; zero when they have.", "s",
              Query(WAITS, "{{role}}"), limits=((None, "transparent"), (900, "red"))),
    ])  # fmt: skip


def failed() -> Row:
    """What failed?"""
    return Row(7, [
        lines("Failures", "In the time range. Retries cost time, items given up leave work undone.", "none",
              Query(total(of_run("item_retries_total"), "role"), "{{role}}: tried again"),
              Query(GIVEN_UP, "{{role}}: given up"),
              Query(total(of_run("actors_lost_total"), "role", "cause"), "{{role}}: actor lost ({{cause}})"),
              Query(total(of_run("train_restarts_total"), "run"), "train: restarts")),
        periods("RayJob", "What KubeRay says, and when. Retrying is a new cluster with the same command.",
                Query('max by (name, deployment_status) (kuberay_job_deployment_status{name=~"uldscale.*"})',
                      "{{name}}: {{deployment_status}}"),
                limits=((None, "green"),)),
    ])  # fmt: skip


def good() -> Row:
    """Is it any good?"""
    return Row(7, [
        lines("Loss", "Total loss of each stage. Stages optimise different things: compare within one only.", "short",
              Query(newest(of_run("train_loss", 'loss="loss"'), "stage"), "{{stage}}")),
        lines("Label churn", "Share of pseudo-labels that changed in a round. It falls as landmarks settle.",
              "percentunit", Query(newest(of_run("label_churn_ratio"), "stage"), "{{stage}}")),
        bars("NME", "Forward error of each method; the first protocol of a data set is the usual one.", "percent",
             Query(last(NME, "method", "protocol"), "{{method}}, {{protocol}}")),
    ])  # fmt: skip


def uses() -> Row:
    """What does it use?"""
    return Row(7, [
        lines("Reserved", "CPUs and GPUs that processes of the cluster have reserved: what is paid for, and for a reason.",
              "none", Query(f"sum by (Name) ({USED})", "{{Name}}")),
        lines("Features", "What extraction writes, and what the batches of training hold.", "Bps",
              Query(rate(of_run("extract_written_bytes_total"), "run"), "written"),
              Query(rate(of_run("train_read_bytes_total"), "run"), "read")),
        lines("Disk free", "Of the disk of the run folder.", "bytes",
              Query(newest(of_run("output_free_bytes"), "run"), "free"),
              Query(newest(of_run("output_size_bytes"), "run"), "size")),
    ])  # fmt: skip
