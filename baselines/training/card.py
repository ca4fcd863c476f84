"""The model card: a STAC item with mlm metadata (https://github.com/stac-extensions/mlm, 1.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lulcbench._files import hash_file, write_json

if TYPE_CHECKING:
    from baselines.data import Input
    from baselines.models import Predictor
    from baselines.run import About

CARD = "model.stac.json"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
# Spatial extent of validity: the release grid and EuroSAT both cover Europe (west, south, east, north).
EUROPE = (-32.0, 27.0, 45.0, 72.0)
PACKAGES = {"PyTorch": "torch", "scikit-learn": "scikit-learn"}


def write_card(folder: Path, predictor: Predictor, about: About) -> Path:
    """Write the STAC item of the fitted model into the folder of its run; returns the path."""
    file = folder / predictor.file
    content = item(predictor, about, hash_file(file), file.stat().st_size, datetime.now(UTC))
    write_json(folder / CARD, content)
    return folder / CARD


def item(predictor: Predictor, about: About, sha256: str, size: int, created: datetime) -> dict[str, Any]:
    """STAC item of a fitted model.

    Args:
        predictor: the fitted model.
        about: description of the run.
        sha256: SHA-256 of the file of the model.
        size: size of the file in bytes.
        created: time of creation.
    """
    config, info = about.config, about.info
    dense = config.task.dense
    task = "semantic-segmentation" if dense else "scene-classification"
    west, south, east, north = EUROPE
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    bands = [{"name": name} for name in dict.fromkeys(name for i in info.inputs.values() for name in i.channels)]
    spatial = ["height", "width"]
    sentences = [
        "SIMULATED training data." if info.simulated else "",
        f"Trained on data {about.data_digest} with config {about.config_digest}.",
        about.warning or "",
    ]
    properties = {
        "datetime": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "title": f"{config.name} ({config.model.label})",
        "description": " ".join(filter(None, sentences)),
        "mlm:name": config.name,
        "mlm:architecture": config.model.label,
        "mlm:tasks": [task],
        "mlm:framework": predictor.framework,
        "mlm:framework_version": about.versions[PACKAGES[predictor.framework]],
        "mlm:total_parameters": about.parameters.total,
        "mlm:pretrained": config.model.pretraining != "none",
        "mlm:pretrained_source": None if config.model.pretraining == "none" else config.model.pretraining,
        "mlm:batch_size_suggestion": config.predict.batch_size,
        "mlm:hyperparameters": {
            **config.model.model_dump(mode="json"),
            **config.train.model_dump(mode="json"),
            "seed": config.seed,
            "temperature": about.temperature,
        },
        "mlm:input": [_input(sensor, i) for sensor, i in info.inputs.items()],
        "mlm:output": [
            {
                "name": "probabilities",
                "tasks": [task],
                "result": {
                    "shape": [-1, len(info.classes), *([-1, -1] if dense else [])],
                    "dim_order": ["batch", "class", *(spatial if dense else [])],
                    "data_type": "float32",
                },
                "classification:classes": [{"value": i, "name": name} for i, name in enumerate(info.classes)],
            }
        ],
    }
    asset = {
        "href": predictor.file,
        "type": predictor.media_type,
        "title": "model",
        "roles": ["mlm:model", "mlm:weights"],
        "bands": bands,  # what mlm:input refers to
        # The same for mlm 1.4, whose schema looks for bands of STAC 1.1 in the properties, where STAC 1.1 has none.
        "raster:bands": bands,
        "mlm:artifact_type": predictor.artifact_type,
        # A multihash: 0x12 is SHA-256, 0x20 its length (file extension 2.1).
        "file:checksum": "1220" + sha256,
        "file:size": size,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, FILE, RASTER],
        "id": config.name,
        "bbox": list(EUROPE),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
        "assets": {"weights": asset},
        "links": [],
    }


def _input(sensor: str, imagery: Input) -> dict[str, Any]:
    """Input of one sensor, in the units of the data, to be normalised by mean and standard deviation."""
    return {
        "name": sensor,
        "bands": [{"name": name} for name in imagery.channels],
        "input": {
            "shape": [-1, len(imagery.channels), -1, -1],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": m, "stddev": s} for m, s in zip(imagery.mean, imagery.std, strict=True)
        ],
    }
