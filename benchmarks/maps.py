"""Maps: speed against the bare forward pass and against peers, memory, and smoothing against its formula.

One UNet, one image, windows of one size, one thread. Ours is ``map_release``: reading shards, predicting, deciding,
computing all layers, writing them and their overviews. The bare forward pass predicts the same windows, which are in
memory already, and does nothing with the results. Peers blend windows of an image in memory into probabilities in
memory; they run the network in torch, as they are made for, and in onnxruntime, as we do. ``terratorch_map`` and
``monai_map`` are the same with what a map takes besides: reading the image, deciding, and writing the same layers and
overviews by our functions.

``.venv-bench/bin/python benchmarks/maps.py [--tiles 8] [--width 100000] [--lines 2000]`` (``make bench-env`` first: it
installs the peers). The last line is one JSON object: ``vs_x`` is the time of x over ours.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import release as benchmark_release
from lulcbench._parallel import in_order
from lulcbench.grid import TILE_SIZE, Bounds
from lulcbench.legend import ClassScheme, legend
from lulcbench.maps import MapModel, ModelInfo, ModelInput, Smoothing, map_release
from lulcbench.maps.imagery import ReleaseImagery, Window
from lulcbench.maps.lattice import BLOCK, Frame, Lattice
from lulcbench.maps.layers import encode, layers
from lulcbench.maps.model import PROPERTY, Image
from lulcbench.maps.overviews import write_overviews
from lulcbench.maps.rows import Rows
from lulcbench.maps.smoothing import smooth
from lulcbench.maps.store import Pyramid
from lulcbench.maps.windows import predict_window
from lulcbench.release import Release

RESOLUTION = 10
REACH = 137  # of the UNet of the demo
Forward = Callable[[Any], Any]  # batch → probabilities, both torch tensors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=8, help="of the image, in one row")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, default=100_000, help="of the strip that memory is measured with, px")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--parts", nargs="+", default=["speed", "memory", "smoothing"])
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        if "speed" in options.parts:
            result |= speed(Path(temporary), options.tiles, options.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        if "memory" in options.parts:
            peaks = in_own_process(strip, Path(temporary), options.width, options.lines)
            print(
                f"strip of {options.width:,} × {options.lines:,} pixels, MiB at most after each row of blocks: {peaks}"
            )
            result |= {"peak_mib_first_row": peaks[0], "peak_mib": peaks[-1]}
    if "smoothing" in options.parts:
        result["smoothing_vs_reference"] = smoothing_error()
    print(json.dumps(result))


def speed(folder: Path, tiles: int, rounds: int) -> dict[str, Any]:
    """Seconds of a map, of the bare forward pass and of the peers; each is the best of all rounds, which alternate.

    Processor time is that of all threads: other load on the machine affects it less.
    """
    import torch

    torch.set_num_threads(1)
    net, model = write_model(folder / "model")
    benchmark_release.make(folder / "release", tiles)
    release = Release.open(folder / "release")
    imagery = ReleaseImagery(release, model.info, 2018)
    lattice = Lattice.of(RESOLUTION, REACH, 32)
    windows = [imagery.read(lattice.window(index)).images for index in lattice.blocks(imagery.bounds)]
    image = imagery.read(imagery.bounds).images["sentinel2"]
    predictor = model.predictor()

    def bare() -> None:
        for images in windows:
            predictor(images)

    def ours() -> None:
        map_release(model.folder, release.root, folder / "map", replace=True)

    def as_map(infer: Callable[[], Any]) -> None:
        image[...] = imagery.read(imagery.bounds).images["sentinel2"]
        write_map(folder / "peer", infer()[0].numpy(), lattice, imagery.bounds)

    def onnx(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(predictor({"sentinel2": batch[0].numpy()}))[None]

    actions = {"bare_forward": bare, "ours": ours}
    for runtime, forward in (("", net), ("_onnx", onnx)):
        actions |= {f"{name}{runtime}": peer(forward, image, lattice) for name, peer in PEERS.items()}
    actions |= {f"{name}_map": partial(as_map, actions[name]) for name in PEERS}
    best = {name: np.full(2, np.inf) for name in actions}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, action in actions.items():
                start = np.array([time.perf_counter(), time.process_time()])
                action()
                taken = np.array([time.perf_counter(), time.process_time()]) - start
                best[name] = np.minimum(best[name], taken)
    for name, (seconds, processor) in best.items():
        rate = tiles * BLOCK**2 / seconds / 1e6
        print(
            f"{name:>15}: {seconds:6.1f} s, {processor:6.1f} s of processor time, {rate:.3f} megapixels/s", flush=True
        )
    result: dict[str, Any] = {"windows": len(windows)}
    for name in [name for name in actions if name != "ours"]:
        ratios = (best[name] / best["ours"]).round(3).tolist()
        result[f"vs_{name}"], result[f"processor_vs_{name}"] = ratios
    return result


def monai(forward: Forward, image: Image, lattice: Lattice) -> Callable[[], Any]:
    """MONAI's ``sliding_window_inference`` with the windows of the lattice."""
    import torch
    from monai.inferers import sliding_window_inference

    side, overlap = (lattice.side, lattice.side), 1 - BLOCK / lattice.side
    batch = torch.from_numpy(image)[None]
    return lambda: sliding_window_inference(batch, side, 1, forward, overlap=overlap, mode="gaussian")


def terratorch(forward: Forward, image: Image, lattice: Lattice) -> Callable[[], Any]:
    """TerraTorch's ``tiled_inference`` with the windows of the lattice: it discards the halo, as we do."""
    import torch

    # Its ``__init__`` imports all of its models, whose versions of torchgeo and others contradict those used here.
    for name in ("terratorch", "terratorch.models", "terratorch.tasks"):
        module = types.ModuleType(name)
        module.__path__ = [str(distribution("terratorch").locate_file(name.replace(".", "/")))]
        sys.modules.setdefault(name, module)
    # ``tiled_inference`` does not call this function, and the module that has it would import all models.
    utils = types.ModuleType("terratorch.models.utils")
    utils.__dict__["pad_images"] = None
    sys.modules.setdefault(utils.__name__, utils)
    tiled_inference = importlib.import_module("terratorch.tasks.tiled_inference").tiled_inference
    sizes = {"crop": lattice.side, "stride": BLOCK, "delta": lattice.halo, "batch_size": 1}
    batch = torch.from_numpy(image)[None]
    return lambda: tiled_inference(forward, batch, padding="reflect", **sizes)


PEERS: dict[str, Callable[[Forward, Image, Lattice], Callable[[], Any]]] = {"terratorch": terratorch, "monai": monai}


def write_model(folder: Path) -> tuple[Any, MapModel]:
    """The UNet of the demo with random weights, in torch and exported."""
    import torch

    from baselines.data import Input
    from baselines.exporting.graphs import network_graph
    from baselines.models import MODELS

    bands = [band.name for band in benchmark_release.BANDS]
    channels = tuple(f"{benchmark_release.SEASON.name}:{band}" for band in bands)
    ones = (1.0,) * len(bands)
    inputs = {"sentinel2": Input(channels=channels, mean=ones, std=ones, resolution=RESOLUTION)}
    settings = {"encoder": "resnet18", "depth": 4, "decoder_channels": [64, 48, 32, 16], "pixel_path": 64}
    torch.manual_seed(0)
    unet: Any = MODELS.parse({"kind": "unet", **settings})
    net = unet.build(inputs, 46).eval()

    def activate(outputs: torch.Tensor) -> torch.Tensor:
        return outputs.softmax(1)

    graph = network_graph(net, activate, inputs)
    info = ModelInfo(
        name="benchmark",
        architecture="UNet",
        dense=True,
        inputs={
            "sentinel2": ModelInput(
                resolution=10, bands=tuple(bands), seasons=(benchmark_release.SEASON,), mean=ones, std=ones
            )
        },
        classes=legend().names(4),
        level=4,
        legend_digest=legend().digest,
        reach=REACH,
        training_digest="none",
        simulated=True,
        sha256=hashlib.sha256(graph).hexdigest(),
    )
    folder.mkdir()
    (folder / "model.onnx").write_bytes(graph)
    (folder / "model.json").write_text(json.dumps({"properties": {PROPERTY: info.model_dump(mode="json")}}))
    return torch.nn.Sequential(net, torch.nn.Softmax(1)), MapModel.open(folder)


def write_map(folder: Path, p: Image, lattice: Lattice, bounds: Bounds) -> None:
    """Write the layers and overviews of a map from probabilities ``(class, y, x)`` of its area."""
    shutil.rmtree(folder, ignore_errors=True)
    scheme = ClassScheme.luisa(4)
    pyramid = Pyramid(folder / "2018", Frame.over(lattice, bounds), layers(scheme), scheme)
    pyramid.create()
    blocks = list(lattice.blocks(bounds))
    counts = {"composites": np.ones((BLOCK, BLOCK), np.uint8)}
    left, _, _, top = bounds
    for index in blocks:
        west, _, _, north = lattice.block(index)
        y, x = round((top - north) / RESOLUTION), round((west - left) / RESOLUTION)
        pyramid.write(index, encode(p[:, y : y + BLOCK, x : x + BLOCK], counts, scheme))
    write_overviews(pyramid, blocks)


class Virtual(ReleaseImagery):
    """Imagery of any extent that is computed when it is read."""

    def __init__(self, info: ModelInfo) -> None:
        self.info, self.year, self.damaged, self.has_clear = info, 2018, {}, False

    def tiles(self, bounds: Any) -> list[Any]:
        """No tile is damaged, so none is named."""
        return []

    def read(self, bounds: Any) -> Window:
        """One channel without a value, whose pixels count as valid."""
        left, bottom, right, top = bounds
        shape = (round((top - bottom) / RESOLUTION), round((right - left) / RESOLUTION))
        return Window({"virtual": np.zeros((1, *shape), np.float32)}, np.ones(shape, np.uint8), None)


def strip(folder: Path, width: int, lines: int) -> list[int]:
    """Map a strip with a model that costs nothing and whose windows overlap, so that rows carry the most they can.

    Returns:
        Peak of the memory after each row of blocks, MiB.
    """
    lattice = Lattice.of(RESOLUTION, None, 32)
    noise: Image = np.random.default_rng(0).random((46, lattice.side, lattice.side), np.float32)

    def predict(images: Any) -> Image:
        return noise

    one = ModelInput(resolution=RESOLUTION, bands=("x",), seasons=(benchmark_release.SEASON,), mean=(0.0,), std=(1.0,))
    info = ModelInfo(
        name="virtual", architecture="none", dense=True, inputs={"virtual": one}, classes=legend().names(4), level=4,
        legend_digest=legend().digest, reach=None, training_digest="none", simulated=True, sha256="0" * 64,
    )  # fmt: skip
    top = 600 * TILE_SIZE
    bounds = (0.0, float(top - lines * RESOLUTION), float(width * RESOLUTION), float(top))
    pyramid = Pyramid(folder / "2018", Frame.over(lattice, bounds), layers(ClassScheme.luisa(4)), ClassScheme.luisa(4))
    pyramid.create()
    window = partial(predict_window, predict, Virtual(info), lattice)
    peaks = []
    with ThreadPoolExecutor(2) as pool:
        rows = Rows(pyramid, bounds, None, None, folder / "journal", lambda order: in_order(pool, window, order, 4))
        for _ in rows.rows(list(lattice.blocks(bounds))):
            shutil.rmtree(folder / "2018" / "0" / "probability" / "c", ignore_errors=True)  # spares the disk
            # Not ru_maxrss, which is inherited from the process that started this one.
            status = Path("/proc/self/status").read_text().splitlines()
            peaks.append(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024)
    return peaks


def in_own_process[Result](function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function in a new process, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def smoothing_error() -> float:
    """Largest difference to the formula of Camara et al. 2024, pixel by pixel in double precision."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (8, 38, 38))
    p = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    settings = Smoothing()
    result = smooth(p, np.ones(p.shape[1:], bool), settings)
    clipped = np.clip(p.astype(np.float64), 1e-4, 1 - 1e-4)
    x = np.log(clipped / (1 - clipped))
    error = 0.0
    for i in range(32):
        for j in range(32):
            highest = np.sort(x[:, i : i + 7, j : j + 7].reshape(8, -1), axis=1)[:, ::-1][:, :25]
            mean, variance = highest.mean(1), highest.var(1, ddof=1)
            posterior = (variance * x[:, i + 3, j + 3] + 20 * mean) / (variance + 20)
            expected = 1 / (1 + np.exp(-posterior))
            error = max(error, float(np.abs(result[:, i, j] - expected / expected.sum()).max()))
    return error


if __name__ == "__main__":
    main()
