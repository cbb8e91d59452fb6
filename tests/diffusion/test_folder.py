"""Finding a model: shipped, a folder, or on the hub, and one clear line when it is nowhere."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from huggingface_hub import file_download

from uldscale.diffusion import folder
from uldscale.diffusion.folder import display_name, fingerprint, kind_of, locate, weight_files
from uldscale.errors import ModelError

COMMIT = "a" * 40
BREAKS = b"content of which nothing comes"
ENCODERS = ("text_encoder", "text_encoder_2")


@pytest.mark.parametrize("model", ["/no/such/folder", "./no/such", "no-such-folder", ""])
def test_missing_folder(model: str) -> None:
    with pytest.raises(ModelError, match=rf"model folder '{model}' is not there; wanted a folder in diffusers layout"):
        locate(model)
    with pytest.raises(
        ModelError, match="owner/name of the hub, tiny-ldm, or random-sd15, random-sd21, .*-dinov2-giant$"
    ):
        locate(model)


def test_the_model_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "resources", SimpleNamespace(files=lambda package: tmp_path))
    with pytest.raises(ModelError, match=r"model 'tiny-ldm': .*tiny_ldm is not there; reinstall uldscale"):
        locate("tiny-ldm")
    (tmp_path / "tiny_ldm").mkdir()
    assert locate("tiny-ldm") == str(tmp_path / "tiny_ldm")


def test_a_folder_is_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("models/mine") == "models/mine"
    assert display_name("models/mine/") == "mine"
    assert display_name("owner/name") == "owner/name"


def test_weights_are_the_plain_ones_in_one_file_or_many(tmp_path: Path) -> None:
    part = tmp_path / "unet"
    part.mkdir()
    shards = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (2, 1)]
    for name in ("config.json", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin", *shards):
        (part / name).write_bytes(name.encode())
    assert weight_files(str(tmp_path), "unet") == [f"unet/{name}" for name in reversed(shards)]


def test_weights_that_git_lfs_did_not_fetch_are_refused(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text("{}")
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
    )
    with pytest.raises(
        ModelError, match=r"unet/diffusion_pytorch_model.safetensors is a Git LFS pointer.*git lfs pull"
    ):
        weight_files(str(tmp_path), "unet")


def test_weights_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").mkdir(parents=True)
    (tmp_path / "unet/config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model.safetensors cannot be read"):
        weight_files(str(tmp_path), "unet")


def test_fingerprint_sees_names_and_contents_but_no_order(tmp_path: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text("{}")
    for name in "abc":
        (tmp_path / name).write_bytes(b"same" if name < "c" else b"other")
    found = [fingerprint(str(tmp_path), list(names)) for names in ("ab", "ba", "ac", "a", "b")]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert len(found[0]) == 64


class TestHub:
    """The real client against a small hub on this machine that holds one model, owner/ldm."""

    @pytest.fixture
    def files(self, ldm: Path) -> dict[str, bytes]:
        held = {str(path.relative_to(ldm)): path.read_bytes() for path in ldm.rglob("*") if path.is_file()}
        return {**held, "unet/diffusion_pytorch_model.bin": b"pickle", "v1-5-pruned.safetensors": b"all in one"}

    @pytest.fixture
    def requests(self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """Paths that the client asks for."""
        asked: list[str] = []

        class Hub(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                if "/gated/" in self.path:
                    self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
                elif "/owner/ldm/" not in self.path:
                    self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
                elif "/revision/" in self.path and not self.path.endswith("/main"):
                    self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
                elif "/revision/" in self.path:
                    siblings = [{"rfilename": name} for name in files]
                    self.reply(200, json.dumps({"id": "owner/ldm", "sha": COMMIT, "siblings": siblings}).encode())
                elif "/tree/" in self.path:
                    tree = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files.items()]
                    self.reply(200, json.dumps(tree).encode())
                else:
                    name = self.path.partition(f"/resolve/{COMMIT}/")[2]
                    self.reply(200, files[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})

            do_HEAD = do_GET

            def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET" and body is not BREAKS:
                    self.wfile.write(body)
                self.close_connection = body is BREAKS

            def log_message(self, *args: object) -> None:
                """Keeps the test output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield asked
        server.shutdown()
        server.server_close()

    def test_a_model_is_fetched_without_what_nobody_reads(self, requests: list[str], ldm: Path) -> None:
        fetched = Path(locate("owner/ldm"))
        names = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if not path.is_dir()}
        assert names == {str(path.relative_to(ldm)) for path in ldm.rglob("*") if path.is_file()}
        assert all((fetched / name).read_bytes() == (ldm / name).read_bytes() for name in names)
        assert not [path for path in requests if path.endswith((".bin", "pruned.safetensors"))]

    def test_both_text_encoders_and_tokenizers_are_fetched(self, requests: list[str], files: dict[str, bytes]) -> None:
        encoders = [f"{part}/model{shard}.safetensors" for part in ENCODERS for shard in ("", "-00001-of-00002")]
        words = [f"tokenizer{suffix}/{name}" for suffix in ("", "_2") for name in ("merges.txt", "vocab.json")]
        wanted = {*encoders, *words, *(f"{part}/config.json" for part in ENCODERS)}
        useless = {"text_encoder_2/model.fp16.safetensors", "text_encoder_2/flax_model.msgpack"}
        files.update(dict.fromkeys(wanted | useless, b"{}"))
        fetched = Path(locate("owner/ldm"))
        assert {str(path.relative_to(fetched)) for path in fetched.glob("t*/*")} == wanted

    def test_a_model_in_one_folder_is_fetched(self, requests: list[str], files: dict[str, bytes], dino: Path) -> None:
        held = {path.name: path.read_bytes() for path in dino.iterdir()}
        files.clear()
        files.update({**held, "pytorch_model.bin": b"pickle", "onnx/model.safetensors": b"another"})
        assert kind_of(locate("owner/ldm", weights=False)) == "dinov2"
        fetched = Path(locate("owner/ldm"))
        names = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if not path.is_dir()}
        assert names == {"config.json", "model.safetensors"}

    def test_a_plan_fetches_no_weights_and_a_run_fetches_the_rest(self, requests: list[str]) -> None:
        fetched = Path(locate("owner/ldm", weights=False))
        assert (fetched / "unet/config.json").is_file()
        assert not list(fetched.rglob("*.safetensors"))
        assert locate("owner/ldm") == str(fetched)
        assert weight_files(str(fetched), "unet") == ["unet/diffusion_pytorch_model.safetensors"]

    def test_a_fetched_model_is_found_again_offline(self, requests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        fetched = locate("owner/ldm")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        assert locate("owner/ldm") == fetched

    def test_gated(self, requests: list[str]) -> None:
        with pytest.raises(ModelError, match="model 'owner/gated' is gated; accept its licence .*`hf auth login`"):
            locate("owner/gated")

    def test_unknown(self, requests: list[str]) -> None:
        with pytest.raises(ModelError, match="model 'models/typo' is neither a folder here nor a model of the hub"):
            locate("models/typo")

    def test_unknown_revision(self, requests: list[str]) -> None:
        with pytest.raises(ModelError, match="model 'owner/ldm' has no revision 'v9' on the hub"):
            locate("owner/ldm", revision="v9")

    def test_offline(self, requests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match="model 'owner/ldm' is neither .* nor in the cache, and the hub does not"):
            locate("owner/ldm")

    @pytest.mark.parametrize("name", ["own--er/x", "a/b.git", "a/" + "x" * 97])
    def test_a_name_that_the_hub_does_not_take(self, name: str) -> None:
        with pytest.raises(
            ModelError, match=f"model '{name}' is neither a folder here nor a name that the hub takes: "
        ):
            locate(name)

    def test_a_connection_that_breaks_in_the_middle(
        self, requests: list[str], files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client tries again five times, a second apart."""
        monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
        files["unet/config.json"] = BREAKS
        with pytest.raises(
            ModelError, match="model 'owner/ldm' is neither .*, and the hub does not answer: "
        ) as caught:
            locate("owner/ldm")
        assert "\n" not in str(caught.value)
        assert len([path for path in requests if path.endswith("unet/config.json")]) > 2

    def test_a_model_that_the_disk_cannot_hold(self, requests: list[str], tmp_path: Path) -> None:
        """Here for want of a folder, as it is for want of space."""
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(
            ModelError, match="model 'owner/ldm' cannot be kept in the cache of the hub .*HF_HOME.*: .Errno"
        ):
            locate("owner/ldm")
