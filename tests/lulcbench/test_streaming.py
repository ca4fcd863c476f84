"""Object stores and HTTP: publish to one, download from it, read shards straight out of it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.publish import publish
from lulcbench import LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.hub import download
from lulcbench.release import Release
from lulcbench.verify import verify


class _Ranges(SimpleHTTPRequestHandler):
    """Python's file server, with the range requests that any real one knows."""

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content, status = path.read_bytes(), 200
        size, start, end = len(content), 0, len(content)
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            status = 206
            start = int(found[1]) if found[1] else max(0, size - int(found[2]))
            end = min(size, int(found[2]) + 1) if found[1] and found[2] else size
        self.send_response(status)
        self.send_header("Content-Length", str(end - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.write(content[start:end])
        return None


@pytest.fixture
def web(release_root: Path) -> Iterator[str]:
    handler = functools.partial(_Ranges, directory=str(release_root.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{release_root.name}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="lulc")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://lulc/releases"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_http(web: str, release_root: Path, tmp_path: Path) -> None:
    indices = [0, 20, 40]
    expected = LuisaSeg(release_root).read(indices)
    straight = LuisaSeg(web).read(indices)
    torch.testing.assert_close(straight["image"], expected["image"])
    assert torch.equal(straight["mask"], expected["mask"])
    release = download(web, tmp_path / "got", splits=["val"], sensors=["landsat"], progress=False)
    assert not verify(tmp_path / "got", release).problems
    with pytest.raises(LulcbenchError, match="Cannot read http://"):
        LuisaSeg(web + "-gone")


# s3fs leaves the closing of its connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_s3_round_trip(bucket: str, release_root: Path, tmp_path: Path) -> None:
    where = publish(release_root, bucket)
    release = Release.load(release_root)
    assert where == f"{bucket}/{release.id}"
    assert publish(release_root, bucket) == where
    got = download(where, tmp_path / "got", progress=False)
    assert got.digest == release.digest
    assert not verify(tmp_path / "got", got).problems

    # TensorStore's S3 client reads credentials when it is first used in a process, so a new one streams.
    code = (
        f"from lulcbench import LuisaSeg; batch = LuisaSeg({where!r}, sensors='landsat').read([3, 40]);"
        "print(float(batch['image'].sum()), int(batch['mask'].sum()))"
    )
    streamed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert streamed.returncode == 0, streamed.stderr[-2000:]
    expected = LuisaSeg(release_root, sensors="landsat").read([3, 40])
    total, classes = streamed.stdout.split()
    assert float(total) == pytest.approx(float(expected["image"].sum()), rel=1e-4)
    assert int(classes) == int(expected["mask"].sum())

    other = Path(shutil.copytree(release_root, tmp_path / "other"))
    release.model_copy(update={"title": "Another"}).write(other)
    with pytest.raises(LulcbenchError, match="another release of that version"):
        publish(other, bucket)
    with pytest.raises(LulcbenchError, match="Cannot publish to"):
        publish(release_root, "s3://no-such-bucket/releases")
    with pytest.raises(LulcbenchError, match="Found no release"):
        download("s3://lulc/nothing", tmp_path / "nothing", progress=False)


def test_a_file_system_that_nobody_knows(release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="Cannot publish to gopher"):
        publish(release_root, "gopher://hole")
    with pytest.raises(LulcbenchError, match="Cannot read"):
        LuisaSeg("gopher://hole/release")
