"""A worker of extraction without its actor: what it writes into a shard, and what it refuses to write."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from safetensors.torch import load_file, save_file

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import CodecConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.diffusion.noising import view_id
from uldscale.errors import ModelError
from uldscale.models.rendering import render_views
from uldscale.models.views import ViewConfig, view_matrices
from uldscale.stages.extract import store_spec
from uldscale.stages.shard_worker import Blueprint, ExtractConfig, ShardWorker
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreConfig

SIZE = 32
BROKEN = "bdef"


@pytest.fixture
def blueprint(tiny_model: str, tmp_path: Path) -> Blueprint:
    """Of an empty store for the images a to f in shards of two, of which all but a and c are broken."""
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(images / f"{name}.png")
    for name in BROKEN:
        (images / f"{name}.png").write_bytes(b"no picture")
    index = ImageIndex.build(DataConfig(kind="folder", train=str(images), size=SIZE))
    index.write(str(tmp_path / "index.parquet"))
    model = BackboneConfig(model=str(shutil.copytree(tiny_model, tmp_path / "model")))
    config = ExtractConfig(
        features=FeatureConfig(backbone=model, timesteps=(50,), codec=CodecConfig(kind="none")),
        views=ViewConfig(count=2),
        store=StoreConfig(rows_per_shard=2),
    )
    spec = store_spec(config, Backbone.outline(model), SIZE, num_rows=len(index), index=index.fingerprint())
    store = FeatureStore.open_or_create(str(tmp_path / "store"), spec)
    return Blueprint(config, store.root, str(tmp_path / "index.parquet"), SIZE, gpus=0, readers=2)


def ready(blueprint: Blueprint) -> ShardWorker:
    worker = blueprint()
    worker.setup()
    return worker


def test_rows_of_quarantined_images_are_zeros(blueprint: Blueprint) -> None:
    """Shard 0 has a and b, shard 1 has c and d, shard 2 has none that can be used."""
    worker = ready(blueprint)
    for shard in range(3):
        worker.process(shard)
    store = FeatureStore.open(blueprint.root)
    store.require_complete()
    assert store.verify() == []
    stored: Any = zarr.open_group(store.root, mode="r")
    for row, image in enumerate("abcdef"):
        matrices, features = expected(blueprint, row)
        np.testing.assert_array_equal(store.views()[row], np.stack([np.eye(3)] * 2) if image in BROKEN else matrices)
        for name in store.spec.resolutions:
            wanted = np.zeros_like(features[name]) if image in BROKEN else features[name]
            np.testing.assert_array_equal(stored[name][row], wanted)
            assert wanted.any() == (image not in BROKEN)


def expected(blueprint: Blueprint, row: int) -> tuple[Any, dict[str, Any]]:
    """Matrices and features of a row, as if its image was that of row 0 when it is broken."""
    index, config = ImageIndex.read(blueprint.index), blueprint.config
    image = index.row(row)
    source = row if image.status == "ok" else 0
    matrices = view_matrices(config.views, image.id, config.features.seed)
    crop = torch.from_numpy(index.load(source, SIZE))
    views = render_views(crop, matrices, config.views, image.id, config.features.seed)
    extractor = Extractor(Backbone.load(config.features.backbone), config.features)
    return matrices, extractor.encode(views, [view_id(image.id, view) for view in range(2)], {})


def test_other_weights_than_those_of_the_store_write_nothing(blueprint: Blueprint) -> None:
    """As when the folder of another machine holds another model."""
    file = Path(blueprint.config.features.backbone.model) / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({**weights, "conv_in.bias": weights["conv_in.bias"] + 1}, file)
    with pytest.raises(ModelError, match="has weights .*, but the store was made with .*; give all machines the same"):
        ready(blueprint)
    assert FeatureStore.open(blueprint.root).missing_shards() == [0, 1, 2]


def test_the_later_attempt_at_a_shard_counts_whoever_was_ready_first(blueprint: Blueprint) -> None:
    """An actor that started later wrote other last bits, and died before it could say so."""
    first, second = ready(blueprint), ready(blueprint)
    other = blueprint.config.features.updated(seed=1)
    second._extractor = Extractor(Backbone.load(other.backbone), other)
    second.process(0)
    first.process(0)
    store = FeatureStore.open(blueprint.root)
    assert store.verify() == []
    stored: Any = zarr.open_group(store.root, mode="r")
    for name, maps in expected(blueprint, 0)[1].items():
        np.testing.assert_array_equal(stored[name][0], maps)
