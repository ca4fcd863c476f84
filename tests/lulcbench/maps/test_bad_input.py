"""Models, releases and folders that cannot be mapped: each is refused with what is wrong, or left out and named."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import xarray as xr
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError, UnsupportedFormatError
from lulcbench.grid import Tile
from lulcbench.maps import MapModel, MapOptions, engine, map_release
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.model import PROPERTY
from lulcbench.maps.prepared import prepared
from lulcbench.release import Manifest, Release
from lulcbench.seasons import SEASONS

FAR = (4_000_000.0, 2_000_000.0, 4_010_000.0, 2_010_000.0)


def changed(model: Path, to: Path, graph: bytes | None = None, **fields: Any) -> Path:
    """A copy of an exported model with another graph or other entries in its description."""
    shutil.copytree(model, to)
    content = json.loads((to / "model.json").read_text())
    if graph is not None:
        (to / "model.onnx").write_bytes(graph)
        fields["sha256"] = hashlib.sha256(graph).hexdigest()
    content["properties"][PROPERTY] |= fields
    (to / "model.json").write_text(json.dumps(content))
    return to


def graph_of(model: Path) -> Any:
    return onnx.load_model(model / "model.onnx")


def test_an_area_outside_the_release_is_refused(exported, release_root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAvailableError, match="does not overlap tiny"):
        map_release(exported("majority"), release_root, tmp_path / "map", MapOptions(bounds=FAR))
    for bounds in ((1.0, 2.0, 1.0, 3.0), (float("nan"), 0.0, 1.0, 1.0)):
        with pytest.raises(LulcbenchError, match="are empty"):
            map_release(exported("majority"), release_root, tmp_path / "map", MapOptions(bounds=bounds))
    assert not (tmp_path / "map").exists()


def test_a_release_without_what_the_model_needs_is_refused_with_all_that_is_missing(
    exported, release_root: Path, tmp_path: Path
) -> None:
    def refused(match: str, sensor: str = "landsat", **fields: Any) -> None:
        stated = json.loads((exported("majority") / "model.json").read_text())["properties"][PROPERTY]["inputs"]
        inputs = {sensor: stated["landsat"] | fields}
        model = MapModel.open(exported("majority"))
        info = model.info.model_validate_json(json.dumps(model.info.model_dump(mode="json") | {"inputs": inputs}))
        with pytest.raises(NotAvailableError, match=match):
            ReleaseImagery(Release.open(release_root), info, 2018)

    refused("sensor planet", sensor="planet")
    refused("landsat at 15 m \\(it has 30 m\\)", resolution=15)
    seasons, bands = [season.model_dump() for season in SEASONS], ["blue", "green", "red", "nir08", "swir16", "thermal"]
    short = [*seasons[:2], seasons[2] | {"end": "08-31"}, *seasons[3:]]
    refused("seasons of these days: summer is 06-25 to 09-12, not 06-25 to 08-31", seasons=short)
    seasons[3] |= {"name": "monsoon"}
    refused("band thermal of landsat; season monsoon", seasons=seasons, bands=bands)
    with pytest.raises(NotAvailableError, match="landsat of 1999 \\(it has 2012, 2018\\)"):
        map_release(exported("majority"), release_root, tmp_path / "map", MapOptions(years=(1999,)))


def test_models_that_are_not_of_this_legend_or_format_are_refused(exported, tmp_path: Path) -> None:
    model = exported("majority")
    for name, fields, kind, match in (
        ("legend", {"legend_digest": "0" * 64}, UnsupportedFormatError, "another legend"),
        ("format", {"format": "lulcbench-model/9"}, UnsupportedFormatError, "lulcbench-model/9"),
        ("classes", {"classes": ["a"] * 41}, CorruptFileError, "its classes are not those of level 3"),
        ("temperature", {"temperature": 0}, CorruptFileError, "temperature"),
        ("extra", {"command": "rm"}, CorruptFileError, "command"),
    ):
        with pytest.raises(kind, match=match):
            MapModel.open(changed(model, tmp_path / name, **fields))
    with pytest.raises(LulcbenchError, match="has no exported model"):
        MapModel.open(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "model.json").write_text("[]")
    with pytest.raises(LulcbenchError, match="is not a JSON object"):
        MapModel.open(tmp_path / "text")


def test_graphs_that_are_not_plain_onnx_are_refused(exported, tmp_path: Path) -> None:
    model = exported("majority")

    def refused(name: str, graph: Any, kind: type[LulcbenchError], match: str) -> None:
        content = graph if isinstance(graph, bytes) else graph.SerializeToString()
        with pytest.raises(kind, match=match):
            MapModel.open(changed(model, tmp_path / name, content))

    refused("noise", b"\x00\xff not protobuf", CorruptFileError, "is not an ONNX model")
    refused("empty", b"", CorruptFileError, "is not an ONNX model")

    custom = graph_of(model)
    custom.graph.node.append(helper.make_node("Shell", ["landsat"], ["x"], domain="com.example"))
    refused("custom", custom, UnsupportedFormatError, "operators that are not standard .of 'com.example'")

    hidden = graph_of(model)  # inside a branch
    inner = helper.make_graph([helper.make_node("Shell", [], ["y"], domain="evil")], "branch", [], [])
    hidden.graph.node.append(helper.make_node("If", ["landsat"], ["x"], then_branch=inner, else_branch=inner))
    refused("hidden", hidden, UnsupportedFormatError, "'evil'")

    endless = graph_of(model)
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [], [])
    endless.graph.node.append(helper.make_node("Loop", ["", "landsat"], ["x"], body=body))
    refused("endless", endless, UnsupportedFormatError, "operator Loop, which may run without end")

    function = graph_of(model)
    function.functions.append(helper.make_function("own", "F", [], [], [], []))
    refused("function", function, UnsupportedFormatError, "'own'")

    external = graph_of(model)
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weights")
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    external.graph.initializer.append(tensor)
    refused("external", external, UnsupportedFormatError, "keeps weights in another file")

    attribute = graph_of(model)
    attribute.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))
    refused("attribute", attribute, UnsupportedFormatError, "keeps weights in another file")

    other = graph_of(model)
    other.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    refused("input", other, CorruptFileError, "takes the inputs {'landsat': 3}, not {'landsat': 24}")

    image = helper.make_tensor_value_info("landsat", TensorProto.FLOAT, ["b", 24, "y", "x"])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["b", 41, "y", "x"])
    nonsense = helper.make_graph([helper.make_node("Nonsense", ["landsat"], ["probabilities"])], "g", [image], [result])
    content = helper.make_model(nonsense, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    with pytest.raises(CorruptFileError, match="cannot be run"):
        MapModel.open(changed(model, tmp_path / "nonsense", content)).predictor()

    shutil.copytree(model, tmp_path / "altered")
    with (tmp_path / "altered" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptFileError, match=r"is not the graph that model\.json describes"):
        MapModel.open(tmp_path / "altered")


def graph_with(model: Path, to: Path, kind: int, *nodes: tuple[str, str, str, dict[str, Any]]) -> Path:
    """A model whose result passes through more operators: (operator, input, output, attributes)."""
    graph = graph_of(model)
    graph.graph.node[-1].output[0] = "p"
    for name, values in (("edge", [0, 0, 8, 8, 0, 0, 0, 0]), ("more", np.float32(0.5)), ("minus", np.float32(-1))):
        graph.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    for operator, given, result, attributes in nodes:
        graph.graph.node.append(helper.make_node(operator, given.split(), [result], **attributes))
    graph.graph.output[0].type.tensor_type.elem_type = kind
    for axis in graph.graph.output[0].type.tensor_type.shape.dim[2:]:
        axis.Clear()
    return changed(model, to, graph.SerializeToString())


@pytest.mark.parametrize(
    ("node", "match"),
    [
        (("Pad", "p edge", "probabilities", {}), r"an array \(41, 488, 488\) .*= \(41, 480, 480\)"),
        (
            ("AveragePool", "p", "probabilities", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            r"an array \(41, 240, 240\)",
        ),
        (("GlobalAveragePool", "p", "probabilities", {}), r"an array \(41, 1, 1\)"),
        (("Sub", "p p", "probabilities", {}), "sum to 0 in a pixel, not 1"),
        (("Mul", "p more", "probabilities", {}), "sum to 0.5 in a pixel, not 1"),
        (("Mul", "p minus", "probabilities", {}), r"values from -.* to -0; probabilities are 0 to 1"),
        (("Log", "p", "probabilities", {}), "probabilities are 0 to 1"),
    ],
    ids=["shifted", "half the resolution", "one pixel", "zero", "half", "negative", "logarithms"],
)
def test_graphs_that_do_not_predict_probabilities_of_all_pixels_are_refused(
    node: tuple[str, str, str, dict[str, Any]], match: str, exported, release_root: Path, tmp_path: Path
) -> None:
    model = graph_with(exported("majority"), tmp_path / "model", TensorProto.FLOAT, node)
    area = MapOptions((2018,), (4347470.0, 3131230.0, 4350530.0, 3134230.0))
    with pytest.raises(LulcbenchError, match=match):
        map_release(model, release_root, tmp_path / "map", area)


@pytest.mark.parametrize("kind", ["INT64", "DOUBLE", "FLOAT16"])
def test_graphs_of_another_type_than_float32_are_refused(kind: str, exported, tmp_path: Path) -> None:
    number = TensorProto.DataType.Value(kind)
    model = graph_with(exported("majority"), tmp_path / "model", number, ("Cast", "p", "probabilities", {"to": number}))
    with pytest.raises(CorruptFileError, match=f"'probabilities' of the type {kind}; inputs and outputs are FLOAT"):
        MapModel.open(model)


def nan_where_red_is_high(model: Path, to: Path) -> Path:
    """A model that divides zero by zero in some pixels."""
    graph = graph_of(model)
    graph.graph.node[-1].output[0] = "inner"
    graph.graph.initializer.append(numpy_helper.from_array(np.array([[[[0.0]]]], np.float32), "none"))
    graph.graph.node.append(helper.make_node("ReduceMax", ["landsat"], ["peak"], keepdims=1))
    graph.graph.node.append(helper.make_node("Sub", ["peak", "peak"], ["nothing"]))
    graph.graph.node.append(helper.make_node("Div", ["none", "nothing"], ["nan"]))
    graph.graph.node.append(helper.make_node("Add", ["inner", "nan"], ["probabilities"]))
    return changed(model, to, graph.SerializeToString())


def test_predictions_that_are_not_finite_stop_a_map(exported, release_root: Path, tmp_path: Path) -> None:
    model = nan_where_red_is_high(exported("majority"), tmp_path / "nan")
    with pytest.raises(LulcbenchError, match="predicts values that are not finite in the window"):
        map_release(model, release_root, tmp_path / "map")


@pytest.mark.slow
def test_a_tile_without_data_has_no_class_and_a_damaged_shard_is_left_out_and_named(
    exported, release_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "release"
    shutil.copytree(release_root, root)
    manifest = Manifest.load(root)
    shards = [f for f in manifest.files if str(f.array) == "landsat_2018" and f.split]
    altered, truncated, lost = (root / shard.path for shard in shards[:3])
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    lost.unlink()
    arguments = ["map", str(exported("forest")), "--root", str(root), "--out", str(tmp_path / "map"), "--year", "2018"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    named = {line.split()[1] for line in result.output.splitlines() if line.startswith("BAD")}
    assert 3 <= len(named) <= 6  # of shards of up to two tiles
    index = bounds_of_tiles(root)
    with xr.open_zarr(tmp_path / "map", group="2018/0", consolidated=False) as mapped:
        for tile, (left, bottom, right, top) in index.items():
            part = mapped.sel(x=slice(left, right), y=slice(top, bottom)).load()
            assert part.class_1.shape == (160, 160)
            assert (part.class_1 > 0).mean() == 0 if tile in named else (part.class_1 > 0).mean() > 0.5
            assert (part.composites == 0).all() == (tile in named)
    stated = json.loads((tmp_path / "map" / "2018" / "item.json").read_text())["properties"]["lulcbench:damaged"]
    assert stated.keys() == named


def bounds_of_tiles(root: Path) -> dict[str, tuple[int, int, int, int]]:
    return {tile: Tile.from_id(tile).bounds for tile in Release.open(root).index()["id"]}


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_map_continues_afterwards(
    exported, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "map"
    with monkeypatch.context() as patch:
        patch.setattr(engine.Pyramid, "write", full)
        with pytest.raises(LulcbenchError, match=r"The disk of .* is full"):
            map_release(exported("majority"), release_root, out)
    assert map_release(exported("majority"), release_root, out).blocks == 4
    out = tmp_path / "with GeoTIFFs"
    # GDAL fails with an error of its own.
    options = MapOptions(years=(2018,), cog=True)
    with monkeypatch.context() as patch:
        patch.setattr("rasterio.shutil.copy", lambda *_, **__: 1 / 0)
        with pytest.raises(LulcbenchError, match=r"GDAL cannot write .*class_1\.tif"):
            map_release(exported("majority"), release_root, out, options)
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        with pytest.raises(LulcbenchError, match=r"The disk of .* is full"):
            map_release(exported("majority"), release_root, out, options)
    assert map_release(exported("majority"), release_root, out, options).blocks == 2


def test_full_memory_is_named_with_what_to_lower(
    exported, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 80.0 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(engine.Pyramid, "write", full)
        with pytest.raises(LulcbenchError, match=r"Memory ran out while .* was made: Unable") as refused:
            map_release(exported("majority"), release_root, tmp_path / "map")
    assert "Lower --workers or --halo" in str(refused.value)
    assert map_release(exported("majority"), release_root, tmp_path / "map").blocks == 4


@pytest.mark.slow
def test_folders_that_hold_something_else_are_kept(exported, release_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "map"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for replace in (False, True):
        with pytest.raises(LulcbenchError, match="is not empty"):
            map_release(exported("majority"), release_root, out, replace=replace)
    assert (out / "thesis.txt").read_text() == "mine"
    (out / "thesis.txt").unlink()
    first = map_release(exported("majority"), release_root, out, MapOptions(years=(2018,)))
    assert first.years == (2018,)
    with pytest.raises(LulcbenchError, match="holds a map already"):
        map_release(exported("majority"), release_root, out)
    assert map_release(exported("majority"), release_root, out, replace=True).years == (2012, 2018)


def test_replace_removes_maps_alone(exported, release_root: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(release_root, release)
    for replace in (False, True):
        with pytest.raises(LulcbenchError, match="release is not empty"):
            map_release(exported("majority"), release, release, replace=replace)
    assert {path.name for path in release.rglob("*")} == {path.name for path in release_root.rglob("*")}


def test_a_map_that_another_process_is_making_is_not_replaced(exported, release_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "map"
    with prepared(out, {"of": "the other process"}, replace=False):
        (out / "2018").mkdir()
        with pytest.raises(LulcbenchError, match="Another process makes the map"):
            map_release(exported("majority"), release_root, out, replace=True)
        assert (out / "2018").is_dir()


def test_models_of_patches_are_not_mapped(exported, release_root: Path, tmp_path: Path) -> None:
    model = changed(exported("majority"), tmp_path / "patches", dense=False)
    with pytest.raises(LulcbenchError, match="classifies patches; a map needs LUISA classes of pixels"):
        map_release(model, release_root, tmp_path / "map")
