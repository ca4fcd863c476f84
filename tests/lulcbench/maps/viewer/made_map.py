"""A map as ``lulcbench map`` writes one, of patches of random classes: small, with every layer and two overviews."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from lulcbench.legend import legend

RESOLUTION = 30
LEFT, TOP = 4320000, 3153600
Codes = npt.NDArray[np.uint16]


def write_map(folder: Path, years: Sequence[int] = (2012, 2018), side: int = 480, simulated: bool = True) -> Path:
    root = zarr.open_group(folder, mode="w")
    root.attrs.update(
        {
            "lulcbench:format": "lulcbench-map/1",
            "title": "Land cover by a test",
            "summary": "SIMULATED DATA: results do not apply to any real location. Random patches.",
            "license": "CC-BY-4.0",
            "lulcbench:model": {"name": "random patches", "digest": "0" * 64},
            "lulcbench:release": {"id": "none-0.0.0", "digest": "1" * 64},
            "lulcbench:simulated": simulated,
            "legend_digest": legend().digest,
        }
    )
    for year in years:
        layers = _full(np.random.default_rng(year), side, side // 4 * 3)
        number = 0
        while True:
            _write_group(root.create_group(f"{year}/{number}"), layers, RESOLUTION << number)
            if max(layers["entropy"].shape) <= 120:
                break
            layers = {name: _halved(name, values) for name, values in layers.items()}
            number += 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python warns that consolidated metadata are not in its specification
        zarr.consolidate_metadata(root.store)
    return folder


def _full(rng: np.random.Generator, height: int, width: int) -> dict[str, npt.NDArray[Any]]:
    """Layers of patches of 24 pixels with ragged borders; a corner has no data."""
    patches = rng.integers(0, 46, (height // 24 + 2, width // 24 + 2))
    y, x = np.mgrid[:height, :width]
    jitter = rng.integers(0, 12, (2, height, width))
    index = patches[(y + jitter[0]) // 24, (x + jitter[1]) // 24]
    valid = y + x > 200
    p = rng.random((46, height, width), np.float32) ** 40
    np.put_along_axis(p, index[None], p.sum(0, keepdims=True) + 0.1, axis=0)
    p /= p.sum(axis=0)
    codes = np.array(legend().codes(4), np.uint16)[index]
    layers: dict[str, npt.NDArray[Any]] = {}
    for level in (1, 2, 3, 4):
        layers[f"class_{level}"] = np.where(valid, legend().remap(codes, level), 0).astype(np.uint16)
    layers["probability"] = np.where(valid, np.rint(p * 255), 0).astype(np.uint8)
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=0) / np.log(46)
    layers["entropy"] = np.where(valid, np.rint(entropy * 254), 255).astype(np.uint8)
    layers["composites"] = np.where(valid, rng.integers(1, 5, valid.shape), 0).astype(np.uint8)
    return layers


def _halved(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Overviews of which only the viewer must show the same: the upper left child."""
    return values[..., ::2, ::2]


def _write_group(group: zarr.Group, layers: dict[str, npt.NDArray[Any]], resolution: int) -> None:
    height, width = layers["entropy"].shape
    group.attrs.update(
        {
            "proj:code": "EPSG:3035",
            "spatial:shape": [height, width],
            "spatial:transform": [resolution, 0, LEFT, 0, -resolution, TOP],
        }
    )
    for name, values in layers.items():
        attributes: dict[str, Any] = {"long_name": name}
        fill = 0
        if name.startswith("class"):
            attributes |= {"flag_values": [0, *legend().codes(int(name[-1]))], "legend_digest": legend().digest}
        elif name == "probability":
            attributes["scale_factor"] = 1 / 255
        elif name == "entropy":
            fill = 255
            attributes |= {"scale_factor": 1 / 254, "_FillValue": 255, "units": "1"}
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(*values.shape[:-2], *(min(240, n) for n in values.shape[-2:])),
            dtype=values.dtype,
            fill_value=fill,
            attributes=attributes,
        )
        array[...] = values
    coordinate = group.create_array("class", shape=(46,), dtype="uint16")
    coordinate[...] = np.array(legend().codes(4), np.uint16)
