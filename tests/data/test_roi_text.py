"""Zero-shot detection by a prompt, with tiny models of transformers that nobody has trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from uldscale.data.images import BrokenImage
from uldscale.data.roi import RoiConfig, make_provider
from uldscale.data.sources import Record
from uldscale.errors import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
SIZE = 32
RECORD = Record("a", "a.png")


def owlv2(folder: Path) -> str:
    """OWLv2 with a tokenizer of single letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>", "!"])}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="!")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config={**sizes, "vocab_size": len(vocabulary), "max_position_embeddings": 16,
                     "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 54},
        vision_config={**sizes, "image_size": SIZE, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    shape = {"height": SIZE, "width": SIZE}
    processor = transformers.Owlv2Processor(transformers.Owlv2ImageProcessorPil(size=shape), tokenizer)
    model = transformers.Owlv2ForObjectDetection(config)
    # Random heads are so sure of themselves that all scores are 0 or 1 and all boxes as large as the image.
    for part in (model.class_head.logit_shift, model.class_head.logit_scale, model.box_head.dense2):
        torch.nn.init.normal_(part.weight, std=0.02)
    return saved(folder, model, processor)


def grounding_dino(folder: Path) -> str:
    """Grounding DINO with a Swin backbone and a vocabulary of a few words."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", ".", "?"]))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    backbone = transformers.SwinConfig(
        image_size=SIZE, patch_size=2, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], window_size=2,
        out_features=["stage2", "stage3"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=text, num_queries=6, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_feature_levels=3, max_text_len=16,
    )  # fmt: skip
    image = transformers.GroundingDinoImageProcessorPil(size={"shortest_edge": SIZE, "longest_edge": 2 * SIZE})
    return saved(
        folder,
        transformers.GroundingDinoForObjectDetection(config),
        transformers.GroundingDinoProcessor(image, tokenizer),
    )


def saved(folder: Path, model: Any, processor: Any) -> str:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=[owlv2, grounding_dino], ids=lambda make: make.__name__)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    make: Callable[[Path], str] = request.param
    torch.manual_seed(0)
    return make(tmp_path_factory.mktemp("zero-shot") / make.__name__)


def config(model: str, **changes: Any) -> RoiConfig:
    return RoiConfig(**{"provider": "text", "model": model, "prompt": "a cat", "threshold": 0.0, **changes})


def raw(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) px and scores (n,) by the definition of the models: OWLv2 pads an image to a square, Grounding DINO does not."""
    processor = transformers.AutoProcessor.from_pretrained(model)
    network = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(model).eval()
    prompt = "a cat." if "dino" in model else "a cat"
    with torch.no_grad():
        outputs = network(**processor(images=Image.fromarray(IMAGE), text=[prompt], return_tensors="pt"))
    height, width = IMAGE.shape[:2]
    scale = np.array([width, height]) if "dino" in model else np.array([max(width, height)] * 2)
    centres, sides = np.split(outputs.pred_boxes[0].numpy() * np.tile(scale, 2), 2, axis=1)
    return np.hstack([centres - sides / 2, centres + sides / 2]), outputs.logits[0].sigmoid().amax(-1).numpy()


def test_the_detection_of_the_highest_score(model: str) -> None:
    boxes, scores = raw(model)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((middle >= 0) & (middle <= IMAGE.shape[1::-1])).all(1)
    boxes, scores = boxes[inside], scores[inside]
    first, second = np.sort(scores)[::-1][:2]
    found = make_provider(config(model, threshold=float(first + second) / 2))(RECORD, IMAGE)
    x0, y0, x1, y1 = boxes[scores.argmax()]
    half, x, y = max(x1 - x0, y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2
    np.testing.assert_allclose(found, [(x - half, y - half, x + half, y + half)], atol=1e-3)


def test_all_objects_and_none(model: str) -> None:
    every = make_provider(config(model, objects="all"))(RECORD, IMAGE)
    sides = [x1 - x0 for x0, _, x1, _ in every]
    assert 1 <= len(every) <= len(raw(model)[0])
    assert every[0] == make_provider(config(model))(RECORD, IMAGE)[0]
    assert all(side >= 1 for side in sides)
    with pytest.raises(BrokenImage, match='no "a cat" found with a score of at least 1'):
        make_provider(config(model, threshold=1.0))(RECORD, IMAGE)


def test_what_is_no_zero_shot_detector(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"roi.model '.*none' cannot be loaded: .* google/owlv2-base-patch16-ensemble"):
        make_provider(config(str(tmp_path / "none")))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match=r"cannot be loaded|has no processor") as caught:
        make_provider(config(str(tmp_path)))
    assert "\n" not in str(caught.value)
