"""Verbs of a trained model on the command line: predict and export; heavy imports happen inside, as in `commands`."""

from typing import Annotated, Literal

import typer

Model = Annotated[str, typer.Argument(help="model/ folder of a finished run, or owner/name of the Hugging Face hub")]


def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="images, videos, folders of images, patterns or URLs")],
    format: Annotated[
        Literal["csv", "json", "coco", "labelstudio", "cvat", "fiftyone"],
        typer.Option(
            help="json is what `uldscale evaluate --predictions` reads, the others are those of annotation tools"
        ),
    ] = "csv",
    output: Annotated[
        str | None, typer.Option(help="file to write instead of printing; for fiftyone a folder", metavar="FILE")
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option(
            help="folder for copies of the images with landmarks drawn on them; small ones are enlarged to 512 pixels",
            metavar="FOLDER",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="JSON or CSV file with the box or boxes of objects in each image, as for data.roi.file", metavar="FILE"
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="folder or hub id of the diffusion model, if it has moved since training")
    ] = None,
) -> None:
    """Find landmarks on images and videos, in pixels of the upright image.

    Images that cannot be used are named and left out; the exit code is 3 then.
    """
    from uldscale.stages.predict import predict as find

    find(model, images, format=format, output=output, overlay=overlay, boxes=boxes, backbone=backbone)


def export(
    model: Model,
    output: Annotated[str, typer.Argument(help="file to write", metavar="OUT")],
    format: Annotated[
        Literal["onnx", "torch"], typer.Option(help="onnx, or torch for a .pt2 file of torch.export")
    ] = "onnx",
) -> None:
    """Write the network behind the diffusion model for other runtimes: encoded features in, landmarks out."""
    from uldscale.stages.export import export as write

    write(model, output, format)
