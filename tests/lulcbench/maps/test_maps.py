"""Maps of the small release: what is stored, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.legend import decide, legend
from lulcbench.maps import MapModel, map_release
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.release import Release


@pytest.fixture(scope="session")
def mapped(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_release(exported("unet"), release_root, tmp_path_factory.mktemp("map") / "map").folder


def test_a_map_is_what_the_model_predicts_of_the_whole_image(mapped: Path, exported, release_root: Path) -> None:
    model = MapModel.open(exported("unet"))
    release = Release.open(release_root)
    for year in (2012, 2018):
        imagery = ReleaseImagery(release, model.info, year)
        left, bottom, right, top = imagery.bounds
        margin = 96 * 30  # more than the reach, on the grid of the windows
        frame = (left - margin, bottom - margin, right + margin, top + margin)
        window = imagery.read(frame)
        p = model.predictor()(window.images)[:, 96:-96, 96:-96]
        missing = (window.composites == 0)[96:-96, 96:-96]
        with xr.open_zarr(mapped, group=f"{year}/0", consolidated=False, mask_and_scale=False) as stored:
            part = stored.sel(x=slice(left, right), y=slice(top, bottom)).load()
        assert part.class_3.shape == (320, 640)
        assert np.abs(part.probability.to_numpy() / 255 - p)[:, ~missing].max() <= 1 / 510 + 1e-5
        expected = np.where(missing, 0, np.array(legend().codes(3))[decide(p, 3)])
        assert (part.class_3 == expected).mean() > 0.9999  # equally probable classes may change places
        assert 0 < missing.mean() < 0.1
        for layer in ("class_1", "composites"):
            np.testing.assert_array_equal(part[layer] == 0, missing)
        for layer in ("entropy", "margin", "least_confidence"):
            np.testing.assert_array_equal(part[layer] == 255, missing)
        for level in (1, 2):
            np.testing.assert_array_equal(part[f"class_{level}"], legend().remap(part.class_3.to_numpy(), level))


def test_the_command_maps_part_of_a_release(exported, release_root: Path, tmp_path: Path) -> None:
    arguments = ["map", str(exported("majority")), "--root", str(release_root), "--out", str(tmp_path / "map")]
    area = ["--bounds", "4344600", "3130000", "4350000", "3136000"]
    result = CliRunner().invoke(app, [*arguments, "--year", "2018", *area])
    assert result.exit_code == 0, result.output
    with xr.open_zarr(tmp_path / "map", group="2018/0", consolidated=False) as stored:
        mapped = stored.class_1.load()
    there = mapped.x[(mapped > 0).any("y")], mapped.y[(mapped > 0).any("x")]
    assert [(float(axis.min()), float(axis.max())) for axis in there] == [(4344615, 4349985), (3130005, 3135975)]
