"""Exported models: the folder that ``lulcbench map`` reads, ``model.onnx`` and ``model.json``."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from baselines.data import Input
from baselines.run import Trained
from baselines.training.card import item
from lulcbench._files import write_atomic
from lulcbench.legend import LegendSubset
from lulcbench.maps import MapModel, ModelInfo, ModelInput, Series
from lulcbench.maps.model import DESCRIPTION, GRAPH, MAX_REACH, PROPERTY
from lulcbench.series.indices import INDICES


def export(trained: Trained, folder: Path) -> MapModel:
    """Write a trained model as ONNX with its description.

    Args:
        trained: the model.
        folder: folder to write.

    Returns:
        The exported model, read back and checked.

    Raises:
        LulcbenchError: models of this kind cannot be exported.
    """
    about, config = trained.about, trained.config
    inputs = about.info.inputs
    graph = trained.predictor.graph(inputs)
    reach = trained.predictor.reach(inputs) if config.task.dense else 0
    info = ModelInfo(
        name=config.name,
        architecture=config.model.label,
        dense=config.task.dense,
        inputs={sensor: _input(imagery, getattr(config.data, "every", None)) for sensor, imagery in inputs.items()},
        classes=about.info.classes,
        level=about.info.level,
        subset=about.info.subset,
        legend_digest=LegendSubset(about.info.subset).digest if about.info.subset else about.legend_digest,
        members=trained.predictor.stacked,
        temperature=about.temperature,
        reach=None if reach is None or reach > MAX_REACH else reach,
        window=config.data.options.get("window") if config.data.spatial else None,
        training_digest=about.data_digest,
        simulated=about.info.simulated,
        sha256=hashlib.sha256(graph).hexdigest(),
    )
    card = item(trained.predictor, about, info.sha256, len(graph), datetime.now(UTC))
    card["properties"][PROPERTY] = info.model_dump(mode="json")
    card["properties"]["mlm:framework"] = "ONNX"
    card["properties"].pop("mlm:framework_version")
    card["assets"]["weights"] |= {
        "href": GRAPH,
        "type": "application/octet-stream; framework=onnx",
        "mlm:artifact_type": "onnx",
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / GRAPH, graph)
    write_atomic(folder / DESCRIPTION, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    return MapModel.open(folder)


def _input(imagery: Input, every: int | None = None) -> ModelInput:
    """Channels such as ``summer:red`` as seasons × bands, or such as ``d015:NDVI`` as steps × (bands, indices)."""
    pairs = [channel.rpartition(":") for channel in imagery.channels]
    names = tuple(dict.fromkeys(band for _, _, band in pairs))
    indices = tuple(name for name in names if every and name in INDICES)
    return ModelInput(
        resolution=round(imagery.resolution),
        bands=tuple(name for name in names if name not in indices),
        seasons=imagery.seasons,
        history=imagery.history,
        composite=imagery.composite,
        mean=imagery.mean,
        std=imagery.std,
        series=Series(every=every, indices=indices) if every else None,
    )
