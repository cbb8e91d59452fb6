"""A cluster that is not there, or asks for another token, is told in one line and soon."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

CONNECT = (
    "from uldscale.runtime import cluster, roles; cluster.ANSWER_SECONDS = 3; cluster.connect(roles.RuntimeConfig())"
)
MAIN = f"""
import sys
from uldscale.errors import UldscaleError
try:
    {CONNECT.replace("; ", chr(10) + "    ")}
except UldscaleError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print("connected")
"""


@pytest.fixture(scope="module")
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Iterator[str]:
    """The address of a cluster that asks for a token."""
    folder = tmp_path_factory.mktemp("r")
    token = secrets.token_hex(32)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    options = ["--head", f"--port={free_port}", "--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options, f"--temp-dir={folder}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while "connected" not in join(f"127.0.0.1:{free_port}", token).stdout:
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield f"127.0.0.1:{free_port}"
        process.terminate()


def join(address: str, token: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_ADDRESS": address}
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return subprocess.run([sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True)


def told(run: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said beside that it is joining, which is said again every ten seconds."""
    return [line for line in run.stderr.splitlines() if not line.startswith("joining the Ray cluster at")]


@pytest.mark.parametrize("token", [None, "f" * 64], ids=["none", "another"])
def test_a_token_that_is_missing_or_wrong_is_one_line(head: str, token: str | None) -> None:
    run = join(head, token)
    assert (run.returncode, run.stdout) == (2, "")
    assert told(run) == [
        f"the Ray cluster at RAY_ADDRESS='{head}' asks for a token, and this process has another token, or none; set "
        "RAY_AUTH_MODE=token with the cluster's own in RAY_AUTH_TOKEN, or in a file named by RAY_AUTH_TOKEN_PATH",
    ]


def test_nobody_at_the_address_is_one_line() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        run = join(address, None)
    assert (run.returncode, run.stdout) == (2, "")
    assert told(run) == [
        f"no Ray cluster answers at RAY_ADDRESS='{address}' (nothing within 3 s); give the address of a running one, or unset it "
        "to run on this machine",
    ]
