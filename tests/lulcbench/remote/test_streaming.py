"""Object stores and HTTP: publish to one, download from it, read shards straight out of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import lulcbench.release.shards
import lulcbench.remote.backends.filesystem
import lulcbench.remote.backends.huggingface
from benchmarks.label_release import SHARD_TILES, make_release, smooth_codes
from builders.stages.publish import publish
from lulcbench import LuisaSeg
from lulcbench.download import download
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.release import ArrayKey, Manifest, Release
from lulcbench.release.verify import verify
from tests.loopback import Ranges, serve
from tests.lulcbench.fake_hub import FakeHub


class _NoRanges(SimpleHTTPRequestHandler):
    """Python's file server as it is; counts requests by path."""

    requests: ClassVar[Counter[str]] = Counter()

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.requests[self.path] += 1
        super().do_GET()


@pytest.fixture
def web(release_root: Path) -> Iterator[str]:
    with serve(release_root) as url:
        yield url


@pytest.fixture
def copy(release_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_root, tmp_path / "release"))


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


@pytest.mark.slow
def test_http(web: str, release_root: Path, tmp_path: Path) -> None:
    indices = [0, 20, 40]
    expected = LuisaSeg(release_root).read(indices)
    straight = LuisaSeg(web).read(indices)
    torch.testing.assert_close(straight["image"], expected["image"])
    assert torch.equal(straight["mask"], expected["mask"])
    release = download(web, tmp_path / "got", splits=["val"], sensors=["landsat"])
    assert not verify(Release(tmp_path / "got", release)).problems
    with pytest.raises(LulcbenchError, match="Cannot read http://"):
        LuisaSeg(web + "-gone")


# s3fs leaves the closing of its connections to the garbage collector.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_s3_round_trip(bucket: str, release_root: Path, tmp_path: Path) -> None:
    where = publish(release_root, bucket)
    release = Manifest.load(release_root)
    assert where == f"{bucket}/{release.id}"
    assert publish(release_root, bucket) == where
    got = download(where, tmp_path / "got")
    assert got.digest == release.digest
    assert not verify(Release(tmp_path / "got", got)).problems

    # TensorStore's S3 client reads credentials when it is first used in a process, so a new one streams.
    code = (
        f"from lulcbench import LuisaSeg; batch = LuisaSeg({where!r}, sensors='landsat').read([3, 40]);"
        "print(float(batch['image'].sum()), int(batch['mask'].sum()))"
    )
    streamed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert streamed.returncode == 0, streamed.stderr[-2000:]
    assert streamed.stderr == ""  # no search for credentials that are known
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
        download("s3://lulc/nothing", tmp_path / "nothing")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_public_buckets_need_no_credentials(bucket: str, release_root: Path, tmp_path: Path) -> None:
    """The release is found in the prefix to which it was published, and is downloaded and streamed."""
    import boto3

    where = publish(release_root, bucket)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_bucket_acl(Bucket="lulc", ACL="public-read")
    prefix = where.removeprefix("s3://lulc/")
    for entry in client.list_objects_v2(Bucket="lulc", Prefix=prefix)["Contents"]:
        client.put_object_acl(Bucket="lulc", Key=entry["Key"], ACL="public-read")
    row = Manifest.load(release_root).rows("test")[0]
    code = (
        "from lulcbench import Release; from lulcbench.download import download;"
        f"print(download({bucket!r}, 'got', splits='val', sensors='landsat').id);"
        f"print(int(Release.open({where!r}).labels('test', 2018, rows=[{row}]).sum()))"
    )
    here = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    here |= {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "AWS_EC2_METADATA_DISABLED": "true"}
    here |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    expected = Release.open(release_root).labels("test", 2018, rows=[row])
    assert done.stdout.split() == [Manifest.load(release_root).id, str(int(expected.sum()))]


def test_download_names_the_releases_below(release_root: Path, tmp_path: Path) -> None:
    publish(release_root, str(tmp_path / "published"))
    assert download(str(tmp_path / "published"), tmp_path / "got", splits="val", sensors="landsat").id == "tiny-0.1.0"
    shutil.copytree(tmp_path / "published" / "tiny-0.1.0", tmp_path / "published" / "tiny-0.2.0")
    with pytest.raises(LulcbenchError, match="has 2 releases"):
        download(str(tmp_path / "published"), tmp_path / "other")


def shard(root: Path, array: str, number: int) -> Path:
    return next(path for path in (root / array / "c" / str(number)).rglob("*") if path.is_file())


@pytest.mark.parametrize("array", ["landsat_2018", "luisa_2018"])
def test_a_missing_shard_is_not_nodata(copy: Path, array: str) -> None:
    lost = shard(copy, array, 1)
    with serve(copy) as url:
        dataset = LuisaSeg(url, sensors="landsat")
        half = len(dataset) // 2
        before = dataset.read([0])  # of the first shard, which stays
        lost.unlink()
        assert torch.equal(dataset.read([0])["image"], before["image"])
        for again in range(2):  # what was missed once is not taken for seen
            with pytest.raises(LulcbenchError, match=rf"{array}/c/1.* is missing"):
                LuisaSeg(url, sensors="landsat").read([0, half]) if again else dataset.read([half])


@pytest.mark.parametrize("array", ["landsat_2018", "luisa_2018"])
def test_a_shard_that_vanishes_while_it_is_read(copy: Path, array: str) -> None:
    key, release = ArrayKey.parse(array), Manifest.load(copy)
    rows, side = list(release.rows("train"))[:1], 40
    with serve(copy) as url:
        for root in (str(copy), url):
            path = shard(copy, array, rows[0])
            reader, content = Release(root, release).reader("train"), path.read_bytes()
            assert reader.read(key, rows, [(0, 0)], (side, side)).any()
            path.unlink()
            with pytest.raises(CorruptFileError, match=rf"{array}/c/{rows[0]}/.* is missing"):
                reader.tiles(key, rows[0], rows[0] + 2)  # more than the chunks that are in memory already
            path.write_bytes(content)


class _Flapping(Ranges):
    """Sometimes answers that a shard does not exist, as behind a balancer with a server that lacks the files."""

    lost: ClassVar[Callable[[str, int], bool]] = lambda asked, before: False  # the range, and number of requests before
    count: ClassVar[int] = 0

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        if "/c/" in self.path:
            type(self).count += 1
            if type(self).lost(asked, type(self).count - 1):
                return self.send_error(404)
        return super().do_GET()


@pytest.mark.parametrize("array", ["landsat_2018", "luisa_2018"])
def test_a_server_that_loses_shards_for_a_moment(
    release_root: Path, array: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, release = ArrayKey.parse(array), Manifest.load(release_root)
    rows = release.rows("train")
    expected = Release(release_root, release).reader("train").tiles(key, rows[0], rows[-1] + 1)
    with serve(release_root, _Flapping) as url:
        for every in (None, 2, 3, 5):
            lost: list[str] = []

            def loses(asked: str, before: int, every: int | None = every, lost: list[str] = lost) -> bool:
                # First a shard or its index alone, so that it seems to hold nothing; it is found again.
                gone = before % every == 0 if every else (not asked or asked.startswith("bytes=-")) and not lost
                lost += [asked] * gone
                return gone

            monkeypatch.setattr(_Flapping, "lost", loses)
            try:
                values = Release(url, release).reader("train").tiles(key, rows[0], rows[-1] + 1)
            except LulcbenchError:
                assert every
            else:
                assert (values == expected).all()
            assert lost


def test_a_shard_that_the_release_does_not_have_is_not_read(tmp_path: Path) -> None:
    """Of another version, by an interrupted download to the same folder or by an older commit on the hub."""
    codes = smooth_codes(SHARD_TILES + 2, seed=3)
    make_release(tmp_path / "before", {2018: codes})
    codes[SHARD_TILES:] = 0
    release = make_release(tmp_path / "release", {2018: codes})
    shutil.copytree(tmp_path / "before" / "luisa_2018" / "c" / "1", tmp_path / "release" / "luisa_2018" / "c" / "1")
    key, last = ArrayKey("luisa", 2018), SHARD_TILES + 1
    with serve(tmp_path / "release") as url:
        for root in (str(tmp_path / "release"), url):
            reader = Release(root, release).reader("test")
            assert (reader.read(key, [0], [(0, 0)], (96, 96)) == codes[:1]).all()
            with pytest.raises(CorruptFileError, match="luisa_2018/c/1/0/0 is not part of the release"):
                reader.read(key, [last], [(0, 0)], (96, 96))
            with pytest.raises(CorruptFileError, match="luisa_2018/c/1/0/0 is not part of the release"):
                reader.tiles(key, last, last + 1)


def test_a_truncated_shard(copy: Path) -> None:
    path = shard(copy, "landsat_2018", 0)
    path.write_bytes(path.read_bytes()[:-1])
    with serve(copy) as url, pytest.raises(LulcbenchError, match="landsat_2018"):
        LuisaSeg(url, sensors="landsat").read([0])


def test_a_shard_with_only_nodata_is_not_missing(tmp_path: Path) -> None:
    codes = smooth_codes(SHARD_TILES + 2, seed=3)
    codes[SHARD_TILES:] = 0
    codes[0] = 0  # a chunk that no shard stores
    release = make_release(tmp_path / "release", {2018: codes})
    assert not any("/c/1/" in file.path for file in release.files)
    with serve(tmp_path / "release") as url:
        reader = Release(url, release).reader("test")
        rows = [0, 5, SHARD_TILES + 1]
        read = reader.read(ArrayKey("luisa", 2018), rows, [(0, 0)] * 3, (96, 96))
        assert (read == codes[rows]).all()
        assert (reader.tiles(ArrayKey("luisa", 2018), 0, len(codes)) == codes).all()


def test_metadata_and_table_of_another_release(copy: Path) -> None:
    metadata, table = copy / "landsat_2018" / "zarr.json", copy / "index.parquet"
    with serve(copy) as url:
        metadata.write_text(metadata.read_text().replace('"shuffle"', '"shuffle" '))
        with pytest.raises(LulcbenchError, match=r"zarr.json is not the file"):
            LuisaSeg(url, sensors="landsat").read([0])
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 1
        table.write_bytes(content)
        with pytest.raises(LulcbenchError, match=r"index.parquet is not the file"):
            LuisaSeg(url, sensors="landsat")


def test_a_server_without_ranges(
    copy: Path, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lulcbench.remote.backends.filesystem, "PIECE", 50_000)
    monkeypatch.setattr(_NoRanges, "requests", Counter())
    with serve(copy, _NoRanges) as url:
        with pytest.raises(LulcbenchError, match="does not know range requests") as error:
            LuisaSeg(url, sensors="landsat").read([0])
        assert "lulcbench download" in error.value.remedy
        _NoRanges.requests.clear()
        release = download(url, tmp_path / "got")
    assert not verify(Release(tmp_path / "got", release)).problems
    assert set(_NoRanges.requests.values()) == {1}
    assert sum(_NoRanges.requests.values()) == len(release.files) + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("private", [False, True])
def test_the_hub(published: FakeHub, release_root: Path, private: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    published.private = private
    expected = LuisaSeg(release_root, sensors="landsat").read([0, 20])
    dataset = LuisaSeg("hf://lulcbench/tiny", sensors="landsat")
    batch = dataset.read([0])
    commit = published.sha("lulcbench/tiny", "main")
    assert dataset.root == f"hf://lulcbench/tiny@{commit}"
    # The branch moves on: all that is read later is still of one commit.
    published.commit("lulcbench/tiny", dict.fromkeys(published.repositories["lulcbench/tiny"]["main"], b""))
    published.requests.clear()
    batch = deepcopy(dataset).read([0, 20])
    torch.testing.assert_close(batch["image"], expected["image"])
    assert torch.equal(batch["mask"], expected["mask"])
    assert {path.split("/resolve/")[1].split("/")[0] for path in published.requests} == {commit}
    # Addresses expire; new ones are requested in time.
    assert not any("luisa" not in path and "landsat" not in path for path in published.requests)
    published.signature = "2"
    later = time.monotonic() + lulcbench.remote.backends.huggingface.LIFETIME + 1
    monkeypatch.setattr(lulcbench.release.shards, "time", SimpleNamespace(monotonic=lambda: later))
    assert torch.equal(dataset.read([20])["image"], batch["image"][1:])
    tag = LuisaSeg(f"hf://lulcbench/tiny@v{dataset.release.manifest.version}", sensors="landsat")
    assert tag.root == dataset.root
    with pytest.raises(LulcbenchError, match=r"Cannot read hf://lulcbench/tiny@v9\.9\.9"):
        LuisaSeg("hf://lulcbench/tiny@v9.9.9", sensors="landsat")
    if private:
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(LulcbenchError, match=r"Cannot read hf://lulcbench/tiny") as error:
            LuisaSeg("hf://lulcbench/tiny", sensors="landsat")
        assert "HF_TOKEN" in error.value.remedy


@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
def test_the_code_on_the_card_runs(published: FakeHub, release_root: Path) -> None:
    card = (release_root / "README.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"ROOT": str(release_root)}
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert names["train"].root == f"hf://lulcbench/tiny@{published.sha('lulcbench/tiny', 'main')}"
    assert set(names["tiles"].split.values.tolist()) == {"train"}


@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
@pytest.mark.parametrize("content", [None, b"short"], ids=["missing", "short"])
def test_a_shard_that_the_hub_does_not_have(published: FakeHub, release_root: Path, content: bytes | None) -> None:
    files = published.repositories["lulcbench/tiny"]["main"]
    lost = next(file.path for file in Manifest.load(release_root).files if file.path.startswith("landsat_2018/c/1/"))
    del files[lost]
    if content is not None:
        files[lost] = content
    with pytest.raises(LulcbenchError, match=rf"{lost} is (missing|5 bytes long)"):
        LuisaSeg("hf://lulcbench/tiny", sensors="landsat").read([0])


def test_a_url_is_not_a_folder_to_download_to(web: str, release_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LulcbenchError, match="Cannot download to http://"):
        LuisaSeg(web, download=str(release_root))
    assert not any(tmp_path.iterdir())


def test_a_file_system_that_nobody_knows(release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="No way to read or write gopher"):
        publish(release_root, "gopher://hole")
    with pytest.raises(LulcbenchError, match="No way to read or write gopher"):
        LuisaSeg("gopher://hole/release")
