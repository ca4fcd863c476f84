"""Maps by models that take the composites of earlier years too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lulcbench import LuisaSeg, Release
from lulcbench.errors import NotAvailableError
from lulcbench.maps import MapModel, MapOptions, OwnModel, map_release
from lulcbench.maps.dated import years_of
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.release import ArrayKey


def test_a_map_needs_the_years_before_too(exported, release_root: Path, tmp_path: Path) -> None:
    model, release = MapModel.open(exported("trends")), Release.open(release_root)
    assert model.info.inputs["landsat"].history == (6,)
    assert years_of(release, model.info) == (2018,)
    with pytest.raises(NotAvailableError, match="landsat of 2006"):
        map_release(model, release, tmp_path / "map", MapOptions((2012,)))


def test_inputs_are_those_of_the_dataset(exported, fitted, release_root: Path) -> None:
    model, release = MapModel.open(exported("trends")), Release.open(release_root)
    data = LuisaSeg(release_root, "test", "landsat", history=6, window=None)
    sample = data[0]
    window = ReleaseImagery(release, model.info, 2018).read(tuple(sample["bounds"].tolist()))
    np.testing.assert_allclose(window.images["landsat"], sample["image"], atol=1e-5)
    seasons = (sample["image"].unflatten(0, (8, 6)) != 0).any(1)
    np.testing.assert_array_equal(window.composites, seasons[4:].sum(0))  # of the year itself
    expected = fitted("trends").predictor(sample["image"][None])[0].numpy()
    assert np.abs(model.predictor()(window.images) - expected).max() < 1e-3


def test_pixels_without_data_in_the_year_itself_are_not_mapped(
    exported, release_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = MapModel.open(exported("trends")).info
    imagery = ReleaseImagery(Release.open(release_root), info, 2018)
    read = imagery._stored

    def cloudy(source: Any, array: ArrayKey, *args: Any) -> np.ndarray:
        values = read(source, array, *args)
        if array.first == 2018:
            values[..., :10, :] = source.coding.fill_value
        return values

    monkeypatch.setattr(imagery, "_stored", cloudy)
    left, _, _, top = imagery.bounds
    window = imagery.read((left, top - 1200, left + 1200, top))
    assert not window.composites[:10].any()
    assert window.images["landsat"][:24, :10].any()


def test_composites_of_another_kind_are_refused(
    exported, fitted, release_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, release = MapModel.open(exported("forest")).info, Release.open(release_root)
    assert info.inputs["landsat"].composite == "median"
    manifest = release.manifest
    medoid = manifest.sensors | {"landsat": manifest.sensors["landsat"].model_copy(update={"composite": "medoid"})}
    monkeypatch.setattr(release, "manifest", manifest.model_copy(update={"sensors": medoid}))
    with pytest.raises(NotAvailableError, match=r"composites of landsat by median \(it has them by medoid\)"):
        ReleaseImagery(release, info, 2018)
    trained = fitted("forest")
    monkeypatch.setattr(Release, "open", lambda root: release)
    with pytest.raises(NotAvailableError, match="by medoid, not by median"):
        trained.config.data.fitted_options(trained.about.info)


def test_own_models_state_their_history(release_root: Path) -> None:
    net = torch.nn.Conv2d(48, 5, kernel_size=1)
    model = OwnModel.of_torch(net, release_root, "landsat", level=1, name="own", history=[6])
    assert model.info.inputs["landsat"].channels == 48
    assert years_of(Release.open(release_root), model.info) == (2018,)


@pytest.mark.parametrize("history", [[2, 6], [6, 6], [0], [-1]])
def test_descriptions_with_an_invalid_history_are_refused(history: list[int], exported) -> None:
    landsat = MapModel.open(exported("trends")).info.inputs["landsat"]
    content = landsat.model_dump() | {"history": history}
    content |= {"mean": landsat.mean[:24] * (len(history) + 1), "std": landsat.std[:24] * (len(history) + 1)}
    with pytest.raises(ValidationError, match="history"):
        type(landsat).model_validate(content)
