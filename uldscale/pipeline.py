"""The story of a run: index, extract, zero-shot, train with relabelling, evaluate, report.

Every arrow is a thing at rest in the run folder, so each step does only what is missing, and a killed run goes on where it was.
"""

from typing import Any

from uldscale import files
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.detector_card import write_card
from uldscale.errors import DataError, StoreError
from uldscale.job import Job, identity_of
from uldscale.locks import EVALUATION, locked
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.cluster import join
from uldscale.runtime.screen import screen, warn
from uldscale.stages.changes import copies, require_different, since_indexed
from uldscale.stages.evaluate import evaluate
from uldscale.stages.extract import extract, require_features, store_root
from uldscale.stages.index import build_index, read_index
from uldscale.stages.locate import locate
from uldscale.stages.peer import adopt
from uldscale.stages.requirements import require_pixels, require_trainable
from uldscale.stages.train import train, warn_of_schedule
from uldscale.stages.truth import chosen_protocols
from uldscale.stages.zero_shot import zero_shot
from uldscale.store.features import FeatureStore
from uldscale.training.schedule import Stage


class Pipeline:
    """The steps of one job, each of which can be run alone."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.run = RunFolder.create(job.root, job.model_dump(mode="json"), identity_of)
        if job.runtime.metrics_port is not None:
            telemetry.serve(job.runtime.metrics_port, job.runtime.metrics_host)

    def beside(self, name: str, **changes: Settings) -> "Pipeline":
        """A run in this one's folder, of the same job with some parts changed, on this one's index and store."""
        extract = self.job.extract.updated(
            store=self.job.extract.store.updated(root=store_root(self.job.extract, self.run))
        )
        other = Pipeline(self.job.updated(**changes, name=name, output=self.run.root, extract=extract))
        # Looking at every image once is enough.
        files.write_bytes(other.run.index, files.read_bytes(self.run.index))
        return other

    def index(self) -> ImageIndex:
        """Images to index.parquet."""
        telemetry.use_run(self.job.name)
        telemetry.tell_run(data=self.job.data.kind)
        join(self.job.runtime)
        with self.run.timed("index"):
            index = read_index(self.job.data, self.run.index)
            if index is None:
                with locked(self.run.root):
                    index = build_index(self.job.data, self.run.index, self.job.runtime)
            self.run.write_environment(conventions=index.conventions, roi=index.regions())
            return index

    def extract(self) -> FeatureStore:
        """Images to the feature store."""
        require_features(self.job.extract.features, self.job.data.size)
        index = self.index()
        with locked(self.run.root), self.run.timed("extract"):
            return extract(self.job.extract, index, self.job.data.size, self.run, self.job.runtime)

    def train(self) -> None:
        """Feature store to checkpoints, labels and detectors, with the ZeroShot baseline beside them."""
        index, store = self.index(), self.store()
        landmarks, border = self.job.train.clusters.landmarks, self.job.data.roi.border
        with locked(self.run.root):
            with self.run.timed("zero_shot"):
                zero_shot(
                    self.job.zero_shot, landmarks, index, store, border, self.run, self.job.runtime,
                    all_rows=self.job.evaluate.all_rows,
                )  # fmt: skip
            with self.run.timed("train"):
                config = self.job.train.in_steps(len(index.rows("train")))
                train(config, self.job.extract.features, store.root, index, border, self.run, self.job.runtime)
            self.run.publish(Stage.D_ULD_PP.value)

    def evaluate(self) -> dict[str, Any]:
        """Detectors to result.json, whose numbers go into the card of the model, too."""
        index = self.index()
        # Beside a training, whose stages that are done can be judged.
        with locked(self.run.root, EVALUATION), self.run.timed("evaluate"):
            locate(index, self.store(), self.run, self.job.runtime, all_rows=self.job.evaluate.all_rows)
        result = evaluate(self.job.evaluate, index, self.run, self.job.name)
        write_card(self.run.model, result, Stage.D_ULD_PP.value)
        return result

    def score(self, predictions: str) -> dict[str, Any]:
        """Landmarks of another method, in a file, to result.json; needs nothing but the index."""
        index = self.index()
        adopt(predictions, index, self.run)
        return evaluate(self.job.evaluate, index, self.run, self.job.name)

    def report(self) -> str:
        """All results to report.html; returns its path."""
        from uldscale.stages.report import write_report

        index = self.index()
        with locked(self.run.root, EVALUATION):
            return write_report(index, self.job.data.size, self.run, self.job.name)

    def run_all(self) -> dict[str, Any]:
        """The whole story; returns the result."""
        self.require_possible()
        self.extract()
        self.train()
        result = self.evaluate()
        self.report()
        telemetry.linger()
        return result

    def require_possible(self) -> None:
        """What would end the run after hours is told before them, and what makes it of less use."""
        require_features(self.job.extract.features, self.job.data.size)
        job, index = self.job, self._present()
        images, views = len(index.rows("train")), job.extract.views.count
        try:
            require_different(index)
            require_trainable(job.train, images, views, job.runtime)
        except DataError:
            # The same command shall see images that were added.
            if not self._has_work:
                files.remove(self.run.index)
            raise
        zero_shot = job.zero_shot
        require_pixels(job.train.clusters.landmarks, min(images, zero_shot.fit_images), zero_shot.fit_pixels)
        warn_of_schedule(job.train, images, self.run)
        if points := index.num_points:
            chosen_protocols(points, job.evaluate.shown)
        for warning in copies(index):
            warn(warning)

    def _present(self) -> ImageIndex:
        """The index, made anew when images have changed before anything was computed; afterwards a run keeps to those that it has."""
        known = read_index(self.job.data, self.run.index)
        changes = since_indexed(self.job.data, known, self.run.index) if known else []
        if changes and not self._has_work:
            screen().say(f"{'; '.join(changes)}: indexing again")
            files.remove(self.run.index)
        elif changes:
            warn(
                f"{'; '.join(changes)}: this run goes on with those of its index; to learn from the images as they are now, "
                "give the job another name (name=…); `uldscale predict` finds landmarks on new ones as it is"
            )
        return self.index()

    @property
    def _has_work(self) -> bool:
        """Whether anything but the index was computed, here or in a store elsewhere, whose rows are those of the index."""
        return self.run.has_work or files.exists(files.join(store_root(self.job.extract, self.run), "zarr.json"))

    def store(self) -> FeatureStore:
        """The complete feature store of this run. Raises StoreError for one of other images."""
        store = FeatureStore.open(store_root(self.job.extract, self.run), self.job.runtime.cache)
        index = read_index(self.job.data, self.run.index)
        if index is not None and store.spec.index != index.fingerprint():
            raise StoreError(
                f"{store.root} holds features of other images than {self.run.index}; set extract.store.root to the store of this run"
            )
        store.require_complete()
        return store
