"""Other ways of storing the same windows, written and read as their documentation recommends.

A peer is written once from an array of windows and then yields epochs of batches, uint16 ``(64, 12, 120, 120)`` in
random order; the benchmark converts whole batches to normalised float32, for all peers in the same way.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

BATCH = 64
Windows = npt.NDArray[np.uint16]
Epoch = Callable[[int], Iterator[torch.Tensor]]  # number of worker processes → batches


def loader(dataset: Dataset[torch.Tensor], shuffle: bool = True) -> Epoch:
    """Epochs of a map-style dataset with torch's DataLoader."""

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        return iter(DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, drop_last=True))

    return epoch


class GeoTiffs(Dataset[torch.Tensor]):
    """One GeoTIFF per patch, uncompressed, as EuroSAT is distributed, read like torchgeo's EuroSAT."""

    def __init__(self, folder: Path, windows: Windows) -> None:
        import rasterio
        from rasterio.transform import from_origin

        self.paths = []
        for i, window in enumerate(windows):
            path = folder / f"{i:05d}.tif"
            profile = {"driver": "GTiff", "dtype": "uint16", "count": len(window), "crs": "EPSG:3035"}
            size = {"height": window.shape[1], "width": window.shape[2], "transform": from_origin(0, 0, 10, 10)}
            with rasterio.open(path, "w", **profile, **size) as file:
                file.write(window)
            self.paths.append(path)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        from torchgeo.datasets.utils import rasterio_loader

        # The steps of torchgeo's NonGeoClassificationDataset: loader, tensor, float, channels first.
        return torch.from_numpy(np.array(rasterio_loader(self.paths[i]))).float().permute((2, 0, 1))


class ZarrSamples(Dataset[torch.Tensor]):
    """zarr-python on the same shards that lulcbench reads, one window per read."""

    def __init__(self, path: Path, per_tile: int) -> None:
        import zarr

        self.array = zarr.open_array(path, mode="r")
        self.side = per_tile
        self.count = self.array.shape[0] * per_tile**2

    def __len__(self) -> int:
        return self.count

    def select(self, i: int) -> tuple[int, int, slice, slice, slice]:
        """The selection of window ``i``."""
        tile, y, x = i // self.side**2, i % self.side**2 // self.side * 120, i % self.side * 120
        return (tile, 0, slice(None), slice(y, y + 120), slice(x, x + 120))

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.array[self.select(i)])


def zarr_batches(samples: ZarrSamples) -> Epoch:
    """zarr-python, reading all windows of a batch concurrently on its event loop."""
    from zarr.core.sync import sync

    async def batch(indices: list[int]) -> list[Any]:
        source = samples.array._async_array
        return list(await asyncio.gather(*(source.getitem(samples.select(i)) for i in indices)))

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(samples)).tolist()
        for first in range(0, len(order) - BATCH + 1, BATCH):
            yield torch.from_numpy(np.stack(sync(batch(order[first : first + BATCH]))))

    return epoch


def webdataset(folder: Path, windows: Windows) -> Epoch:
    """WebDataset: tar shards of .npy members, shard shuffle and a shuffle buffer, batched in the workers."""
    import webdataset as wds

    with wds.ShardWriter(str(folder / "%04d.tar"), maxsize=128 * 2**20, verbose=0) as sink:
        for i, window in enumerate(windows):
            content = io.BytesIO()
            np.save(content, window)
            sink.write({"__key__": f"{i:05d}", "image.npy": content.getvalue()})
    shards = sorted(map(str, folder.glob("*.tar")))

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        data = (
            wds.WebDataset(shards, shardshuffle=len(shards), nodesplitter=None)
            .shuffle(512)
            .decode()
            .to_tuple("image.npy")
            .batched(BATCH, partial=False)
        )
        for (batch,) in wds.WebLoader(data, batch_size=None, num_workers=min(workers, len(shards))):
            yield torch.as_tensor(batch)

    return epoch


def _as_sample(window: Windows) -> dict[str, Windows]:
    return {"image": window}


def litdata(folder: Path, windows: Windows) -> Epoch:
    """LitData: 64 MB chunks written by ``optimize``, read by its StreamingDataLoader."""
    import litdata as ld
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_bytes="64MB")
    for i, window in enumerate(windows):
        cache[i] = _as_sample(window)
    cache.done()
    cache.merge()

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        data = ld.StreamingDataset(str(folder), shuffle=True, drop_last=True)
        for batch in ld.StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, drop_last=True):
            yield batch["image"]

    return epoch


def streaming(folder: Path, windows: Windows) -> Epoch:
    """MosaicML Streaming: MDS shards of fixed-shape arrays, py1e shuffle, torch's DataLoader."""
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    shape = ",".join(map(str, windows.shape[1:]))
    with MDSWriter(out=str(folder), columns={"image": f"ndarray:uint16:{shape}"}) as sink:
        for window in windows:
            sink.write(_as_sample(window))

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        clean_stale_shared_memory()
        data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
        for batch in DataLoader(data, BATCH, num_workers=workers, drop_last=True):
            yield batch["image"]

    return epoch


class Lmdb(Dataset[torch.Tensor]):
    """LMDB with one safetensors blob per patch, uncompressed, as used for reBEN (BigEarthNet v2)."""

    def __init__(self, folder: Path, windows: Windows) -> None:
        import lmdb
        from safetensors.numpy import save

        self.folder, self.count = folder, len(windows)
        self.reader: Any = None  # opened in the process that reads
        with lmdb.open(str(folder), map_size=windows.nbytes * 2 + 2**24) as env, env.begin(write=True) as out:
            for i, window in enumerate(windows):
                out.put(f"{i:05d}".encode(), save(_as_sample(np.ascontiguousarray(window))))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> torch.Tensor:
        import lmdb
        from safetensors.torch import load

        if self.reader is None:
            env = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False, meminit=False)
            self.reader = env.begin(buffers=False)
        return load(self.reader.get(f"{i:05d}".encode()))["image"]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"reader": None}


def quiet() -> None:
    """Ignore the warnings of peers."""
    warnings.simplefilter("ignore")
