"""The model card: a STAC item with mlm metadata (https://github.com/stac-extensions/mlm, 1.4) beside the weights."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from baselines.run import DESCRIPTION, WEIGHTS, cut_short
from lulcbench._files import hash_file, write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited

CARD = "model.stac.json"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
# Where a model may be asked: the release grid and EuroSAT both cover Europe (west, south, east, north).
EUROPE = (-32.0, 27.0, 45.0, 72.0)


def write_card(folder: Path) -> Path:
    """Describe the trained model of a run folder; returns the item's path."""
    about = parse_json(read_limited(folder / DESCRIPTION, MAX_TEXT_BYTES), str(folder / DESCRIPTION))
    content = item(about, hash_file(folder / WEIGHTS), (folder / WEIGHTS).stat().st_size, datetime.now(UTC))
    write_atomic(folder / CARD, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / CARD


def item(about: dict[str, Any], sha256: str, size: int, made: datetime) -> dict[str, Any]:
    """The STAC item of a model.

    Args:
        about: its description (``model.json``).
        sha256: of the weights.
        size: of the weights, bytes.
        made: when.
    """
    config, channels, classes = about["config"], about["channels"], about["classes"]
    segments = config["data"]["kind"] == "luisa-seg"
    task = "semantic-segmentation" if segments else "scene-classification"
    west, south, east, north = EUROPE
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    scaling = None
    if about["mean"] is not None:
        scaling = [
            {"type": "z-score", "mean": m, "stddev": s} for m, s in zip(about["mean"], about["std"], strict=True)
        ]
    spatial = ["height", "width"]
    properties = {
        "datetime": made.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "description": ("SIMULATED training data. " if about["simulated"] else "")
        + f"Trained on data {about['data_digest']} with config {about['config_digest']}."
        + (f" {warning}" if (warning := cut_short(about)) else ""),
        "bands": [{"name": name} for name in channels],  # what mlm:input refers to
        "mlm:name": config["name"],
        "mlm:architecture": config["model"].get("name", config["model"]["kind"]),
        "mlm:tasks": [task],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": about["versions"]["torch"],
        "mlm:total_parameters": about["parameters"]["total"],
        "mlm:pretrained": config["model"]["weights"] is not None,
        "mlm:pretrained_source": config["model"]["weights"],
        "mlm:batch_size_suggestion": config["predict"]["batch_size"],
        "mlm:hyperparameters": {**config["train"], "seed": config["seed"], "temperature": about["temperature"]},
        "mlm:input": [
            {
                "name": "seasonal composites" if segments else "patch",
                "bands": [{"name": name} for name in channels],
                "input": {
                    "shape": [-1, len(channels), -1, -1],
                    "dim_order": ["batch", "bands", *spatial],
                    "data_type": "float32",
                },
                "value_scaling": scaling,
            }
        ],
        "mlm:output": [
            {
                "name": "logits",
                "tasks": [task],
                "result": {
                    "shape": [-1, len(classes), *([-1, -1] if segments else [])],
                    "dim_order": ["batch", "class", *(spatial if segments else [])],
                    "data_type": "float32",
                },
                "classification:classes": [{"value": i, "name": name} for i, name in enumerate(classes)],
            }
        ],
    }
    asset = {
        "href": WEIGHTS,
        "type": "application/octet-stream; application=safetensors",
        "title": "weights",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
        # A multihash: 0x12 is SHA-256, 0x20 its length (file extension 2.1).
        "file:checksum": "1220" + sha256,
        "file:size": size,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, FILE],
        "id": config["name"],
        "bbox": list(EUROPE),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
        "assets": {"weights": asset},
        "links": [],
    }
