"""Extraction from a bucket into a bucket: the store is that of local folders."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from uldscale.data.faces3d import render
from uldscale.job import Job
from uldscale.pipeline import Pipeline

pytestmark = pytest.mark.cluster

pytest.importorskip("moto.server", reason="no S3 server: install moto[s3], flask and flask-cors")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Of a user with a server of their own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    yield os.environ | keys | {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()


def test_images_and_store_in_a_bucket(settings: dict[str, Any], environment: dict[str, str], tmp_path: Path) -> None:
    import boto3

    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="faces")
    (tmp_path / "images").mkdir()
    for seed in range(9):
        path = tmp_path / "images" / f"{seed}.png"
        Image.fromarray(render(seed, size=64).image).save(path)
        client.upload_file(str(path), "faces", f"images/{seed}.png")
    settings["data"] = {"kind": "folder", "train": str(tmp_path / "images"), "size": 64}
    local = Pipeline(Job.model_validate(settings)).extract()

    settings["data"]["train"] = "s3://faces/images"
    settings["extract"]["store"]["root"] = "s3://faces/store"
    settings["name"] = "remote"
    settings["runtime"]["ray"] = True
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", "from uldscale.cli import main; main()", "extract", str(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    # Of the run in its folder, and of a copy of it in the bucket.
    for root in (f"{settings['output']}/remote", "s3://faces/remote"):
        if root.startswith("s3"):
            for path in Path(settings["output"]).joinpath("remote").rglob("*.*"):
                client.upload_file(str(path), "faces", f"remote/{path.relative_to(settings['output'] + '/remote')}")
        told = [sys.executable, "-c", "from uldscale.cli import main; main()", "status", root]
        lines = subprocess.run(told, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
        assert "index             done" in lines
        assert "extract           2 of 2 shards" in lines

    listed = client.list_objects_v2(Bucket="faces", Prefix="store/")["Contents"]
    remote = {
        entry["Key"].removeprefix("store/"): client.get_object(Bucket="faces", Key=entry["Key"])["Body"].read()
        for entry in listed
    }
    files = [path for path in Path(local.root).rglob("*") if path.is_file()]
    assert remote.keys() == {str(path.relative_to(local.root)) for path in files}
    shards = [path for path in files if path.suffix != ".json"]
    assert all(remote[str(path.relative_to(local.root))] == path.read_bytes() for path in shards)
