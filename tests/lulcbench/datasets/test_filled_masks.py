"""What transforms fill where they have no pixels is ignored in masks, whatever the library, and never a class.

The expectation comes from the library itself: the same transform, with the same random numbers, of a mask in which each
pixel holds its own number. Where that comes out as 0, the transform had no pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from kornia.constants import DataKey
from torch import Tensor, nn
from torchgeo.transforms import SatSlideMix
from torchvision import tv_tensors
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaCls, LuisaDataModule, LuisaSeg, LuisaSeries
from lulcbench.datasets import LabelTransform, SpatialTransform
from lulcbench.datasets._transforms import apply
from lulcbench.datasets.augment import Gain
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid behavior"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]
Sample = dict[str, Any]


def kornia(*steps: nn.Module, **options: Any) -> nn.Module:
    return K.AugmentationSequential(*steps, data_keys=None, **{"keepdim": True} | options)


KORNIA: dict[str, Callable[[], nn.Module]] = {
    "rotation": lambda: K.RandomRotation(45.0, p=1.0),
    "affine": lambda: K.RandomAffine(20.0, (0.2, 0.2), (0.7, 1.3), 10.0, p=1.0),
    "perspective": lambda: K.RandomPerspective(0.5, p=1.0),
    "shear": lambda: K.RandomShear(30.0, p=1.0),
    "translation": lambda: K.RandomTranslate((0.1, 0.4), (0.1, 0.4), p=1.0),
    "elastic": lambda: K.RandomElasticTransform(alpha=(8.0, 8.0), p=1.0),
    "padded crop": lambda: K.RandomCrop((40, 40), padding=6, p=1.0),
    "padding": lambda: K.PadTo((48, 52)),
    "erasing": lambda: K.RandomErasing((0.1, 0.3), p=1.0),
    "flip": lambda: K.RandomHorizontalFlip(p=1.0),
}
TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "rotation": lambda: v2.RandomRotation((20, 70)),
    "expanding rotation": lambda: v2.RandomRotation((20, 70), expand=True),
    "bilinear rotation": lambda: v2.RandomRotation((20, 70), interpolation=v2.InterpolationMode.BILINEAR),
    "affine": lambda: v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3), 10),
    "perspective": lambda: v2.RandomPerspective(0.5, p=1.0),
    "elastic": lambda: v2.ElasticTransform(150.0),
    "padding": lambda: v2.Pad((3, 5)),
    "reflected padding": lambda: v2.Pad((3, 5), padding_mode="reflect"),
    "replicated padding": lambda: v2.Pad((3, 5), padding_mode="edge"),
    "padded crop": lambda: v2.RandomCrop(40, padding=6),
    "large crop": lambda: v2.CenterCrop(50),
    "zoom out": lambda: v2.RandomZoomOut(p=1.0),
    "resized crop": lambda: v2.RandomResizedCrop(40),
    "resizing": lambda: v2.Resize(25),
    "perhaps": lambda: v2.RandomApply([v2.RandomRotation((20, 70))], p=0.5),
}
BOTH = [
    *(pytest.param(lambda make=make: kornia(make()), id=f"kornia {name}") for name, make in KORNIA.items()),
    *(pytest.param(make, id=f"torchvision {name}") for name, make in TORCHVISION.items()),
]


def numbered(mask: Tensor) -> Tensor:
    """A mask in which each pixel holds its number, from 1 on."""
    plane = torch.arange(1, mask[..., :, :].numel() + 1)
    return plane.view(mask.shape)


def expected(make: Callable[[], Any], sample: Sample, seed: int, batched: bool = False) -> dict[str, Tensor]:
    """Each mask after the transform, by where its pixels came from."""
    masks = {key: value for key, value in sample.items() if key.startswith("mask")}
    numbers = {key: numbered(mask) for key, mask in masks.items()}
    kinds = {"image": tv_tensors.Image, "mask": tv_tensors.Mask}
    transform = make()
    given = sample | numbers
    if isinstance(transform, v2.Transform):
        given = {k: kinds[k.split("_")[0]](v) if k.split("_")[0] in kinds else v for k, v in given.items()}
    torch.manual_seed(seed)
    done = transform(given)
    found = {}
    for key, mask in masks.items():
        source = torch.as_tensor(done[key]).as_subclass(Tensor)  # type: ignore[arg-type]
        values = torch.cat([torch.tensor([IGNORE_INDEX]), mask.flatten()])
        found[key] = values[source]
    return found


def with_seed(transform: Callable[[Sample], Sample], sample: Sample, seed: int) -> Sample:
    torch.manual_seed(seed)
    return transform(sample)


def samples(root: Path) -> Iterator[tuple[Any, Sample]]:
    """One sample of each form of masks that fits images of (channel, y, x)."""
    for kind, options in (
        (LuisaSeg, {"sensors": "landsat", "level": 4}),
        (LuisaSeg, {"sensors": "landsat", "level": (1, 2, 3, 4)}),
        (LuisaSeg, {"sensors": "landsat", "level": 1}),
        (LuisaChange, {"level": 3}),
        (LuisaChange, {"level": (1, 4)}),
    ):
        yield (kind, options), kind(root, **options)[9]


@pytest.mark.parametrize("make", BOTH)
def test_no_transform_of_a_library_makes_up_labels(release_root: Path, make: Callable[[], nn.Module]) -> None:
    for (kind, options), plain in samples(release_root):
        wanted = expected(make, plain, 3)
        done = with_seed(lambda s, k=kind, o=options: k(release_root, transforms=make(), **o)[9], plain, 3)
        for key, mask in wanted.items():
            assert done[key].dtype == plain[key].dtype
            assert torch.equal(done[key], mask), key
        if kind is LuisaChange:
            before, after, changed = (done[key] for key in ("mask_from", "mask_to", "mask"))
            known = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
            assert torch.equal(changed[known] == 1, (before != after)[known])
            assert (changed[~known] == IGNORE_INDEX).all()


@pytest.mark.parametrize("kind", ["torchvision", "kornia"])
def test_the_corners_of_a_rotation_are_those_of_geometry(release_root: Path, kind: str) -> None:
    """Pixels whose centre, turned back by 30 degrees, lies outside of the window, counted in numpy."""
    make = {"torchvision": v2.RandomRotation((30, 30)), "kornia": kornia(K.RandomRotation((30.0, 30.0), p=1.0))}[kind]
    plain, done = (LuisaSeg(release_root, sensors="landsat", transforms=t)[3] for t in (None, make))
    size = 40
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.deg2rad(30)
    back = np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y])
    outside = (np.abs(back) > size / 2).any(0)
    assert 200 < outside.sum() < 300
    assert not (plain["mask"] == IGNORE_INDEX).any()
    assert int((torch.from_numpy(outside) != (done["mask"] == IGNORE_INDEX)).sum()) <= 8  # on the very border
    assert (done["image"][:, torch.from_numpy((np.abs(back) > size / 2 + 1).any(0))] == 0).all()  # nodata


@pytest.mark.parametrize("fill", [1, 7, 114, 127, 255, -1, {tv_tensors.Image: 0, tv_tensors.Mask: 255}])
def test_what_masks_are_filled_with_does_not_matter(release_root: Path, fill: Any) -> None:
    first, second = (
        LuisaSeg(release_root, sensors="landsat", level=1, transforms=v2.Pad(4, fill=value))[3]["mask"]
        for value in (0, fill)
    )
    assert torch.equal(first, second)
    assert int((first == IGNORE_INDEX).sum()) == 48 * 48 - 40 * 40


def test_labels_that_were_ignored_stay_so(release_root: Path) -> None:
    plain = LuisaSeg(release_root, sensors="landsat", level=2)[3]
    plain["mask"][5:20, 7:30] = IGNORE_INDEX
    for make in (lambda: v2.RandomRotation((30, 30)), lambda: kornia(K.RandomRotation((30.0, 30.0), p=1.0))):
        wanted = expected(make, plain, 0)["mask"]
        done = with_seed(lambda s, m=make: apply(m(), s), dict(plain), 0)["mask"]
        assert torch.equal(done, wanted)
        assert int((done == IGNORE_INDEX).sum()) > 300 + 200
    nothing = plain | {"mask": torch.full((40, 40), IGNORE_INDEX)}
    assert (apply(v2.RandomRotation((30, 30)), nothing)["mask"] == IGNORE_INDEX).all()


@pytest.mark.parametrize("classes", [1, 2, 46, 126, 127, 128, 200, 254])
def test_masks_of_any_number_of_classes(classes: int) -> None:
    mask = torch.arange(40 * 40).view(40, 40) % classes
    sample = {"image": torch.rand(3, 40, 40), "mask": mask}
    make = lambda: v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3), 10)  # noqa: E731
    done = with_seed(lambda s: apply(make(), s), sample, 1)["mask"]
    assert torch.equal(done, expected(make, sample, 1)["mask"])


def test_single_labels_and_series_of_pixels_are_untouched(release_root: Path) -> None:
    turn = v2.RandomRotation((30, 30))
    plain, done = (LuisaCls(release_root, sensors="landsat", transforms=t)[3] for t in (None, turn))
    assert done["label"] == plain["label"]
    assert not torch.equal(done["image"], plain["image"])
    for level in (3, (1, 3)):
        plain, done = (LuisaSeries(release_root, window=30, level=level, transforms=t)[7] for t in (None, turn))
        assert torch.equal(done["mask"], plain["mask"])
    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    plain, done = (LuisaSeries(release_root, level=2, transforms=t)[3] for t in (None, make()))
    assert torch.equal(done["mask"], expected(make, plain, 0)["mask"])


@pytest.mark.parametrize(
    "options",
    [
        {"flatten": False},
        {"sensors": ("landsat", "sentinel2")},
        {"mask_resolution": "label"},
        {"normalize": "device"},
        {"normalize": False, "level": (1, 2)},
    ],
)
def test_every_form_of_image_that_torchvision_takes(release_root: Path, options: dict[str, Any]) -> None:
    options = {"sensors": "landsat"} | options
    plain, done = (LuisaSeg(release_root, transforms=t, **options)[3] for t in (None, v2.RandomRotation((30, 30))))
    wanted = expected(lambda: v2.RandomRotation((30, 30)), {"mask": plain["mask"]}, 0)["mask"]
    assert torch.equal(done["mask"], wanted)


def test_masks_that_are_interpolated_are_an_error(release_root: Path) -> None:
    bilinear = {DataKey.MASK: {"resample": "bilinear", "align_corners": True}}
    for turn in (
        kornia(K.RandomRotation((30.0, 30.0), p=1.0), extra_args=bilinear),  # Kornia makes whole numbers of it again
        SpatialTransform(lambda s: s | {"mask": nn.functional.avg_pool2d(s["mask"][None].float(), 2)[0]}),
        SpatialTransform(lambda s: s | {"mask": nn.functional.avg_pool2d(s["mask"][None].float(), 2)[0].long()}),
        SpatialTransform(lambda s: s | {"mask": s["mask"] == 5}),
    ):
        dataset = LuisaSeg(release_root, sensors="landsat", transforms=turn)
        with pytest.raises(LulcbenchError, match=r"averaged the classes of neighbouring pixels"):
            list(dataset)  # type: ignore[call-overload]


def test_axes_that_a_library_takes_for_a_batch_are_an_error(release_root: Path) -> None:
    turn = kornia(K.RandomRotation(30.0, p=1.0))
    for dataset in (
        LuisaSeg(release_root, sensors="landsat", flatten=False, transforms=turn),
        LuisaSeries(release_root, transforms=turn),
    ):
        with pytest.raises(LulcbenchError, match=r"turned mask from \(40, 40\) into"):
            dataset[3]


def shifted(value: Tensor, fill: int) -> Tensor:
    """Moved by 6 pixels to the right, as OpenCV and albumentations do: filled with a constant, 0 by default."""
    array = value.numpy()
    out = np.full_like(array, fill)
    out[..., 6:] = array[..., :-6]
    return torch.from_numpy(out)


def test_callables_of_ones_own_are_wrapped_or_refused(release_root: Path) -> None:
    def shift(sample: Sample) -> Sample:
        return sample | {key: shifted(sample[key], 0) for key in ("image", "mask")}

    plain = LuisaSeg(release_root, sensors="landsat", level=3)
    wrapped = LuisaSeg(release_root, sensors="landsat", level=3, transforms=SpatialTransform(shift))
    for index in range(0, len(plain), 7):
        before, after = plain[index], wrapped[index]
        assert torch.equal(after["mask"], shifted(before["mask"], IGNORE_INDEX))
        assert torch.equal(after["image"], shifted(before["image"], 0))
    bare = LuisaSeg(release_root, sensors="landsat", level=3, transforms=shift)
    refused = 0
    for index in range(len(plain)):
        before = plain[index]["mask"]
        grows = int((shifted(before, 0) == 0).sum()) > int((before == 0).sum())
        if grows:  # if not, as much of class 0 went out at the other side
            with pytest.raises(
                LulcbenchError, match=r"shift made a mask with more pixels of class 0 than before"
            ) as error:
                bare[index]
            assert "SpatialTransform" in error.value.remedy
        refused += grows
    assert refused > 0.9 * len(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask.flip(-1),
        lambda mask: mask.rot90(),
        lambda mask: mask[3:30, 5:20],
        lambda mask: torch.where(mask == mask[0, 0], IGNORE_INDEX, mask),
        lambda mask: shifted(mask, IGNORE_INDEX),
        lambda mask: mask.to(torch.uint8),
        lambda mask: mask.float(),
    ],
)
def test_callables_that_make_up_no_label_need_no_wrapping(release_root: Path, change: Callable[[Tensor], Any]) -> None:
    plain = LuisaSeg(release_root, sensors="landsat")[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=lambda s: s | {"mask": change(s["mask"])})[3]
    assert torch.equal(done["mask"], change(plain["mask"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: (mask == mask[0, 0]).long(),
        lambda mask: mask + 1,
        lambda mask: mask - 1,
        lambda mask: mask + 0.5,
        lambda mask: torch.full_like(mask, -1),
        lambda mask: mask.repeat_interleave(2, -1),
    ],
)
def test_callables_that_change_labels_must_declare_it(release_root: Path, change: Callable[[Tensor], Any]) -> None:
    def relabel(sample: Sample) -> Sample:
        return sample | {"mask": change(sample["mask"])}

    plain = LuisaSeg(release_root, sensors="landsat")[3]
    with pytest.raises(
        LulcbenchError, match=r"relabel made a mask with (more pixels of class \d+ than before|no classes)"
    ):
        LuisaSeg(release_root, sensors="landsat", transforms=relabel)[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=LabelTransform(relabel))[3]
    assert torch.equal(done["mask"], change(plain["mask"]))


def test_chains_of_several_libraries_and_of_functions(release_root: Path) -> None:
    seen = []

    def look(sample: Sample) -> Sample:
        seen.append(sample["mask"].clone())
        return sample

    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    turn = kornia(K.RandomHorizontalFlip(p=1.0))
    plain = LuisaSeg(release_root, sensors="landsat", level=2)[3]
    wanted = expected(make, plain, 0)["mask"]
    for chain in (v2.Compose([look, make(), look, turn, look]), nn.Sequential(make(), turn)):
        done = LuisaSeg(release_root, sensors="landsat", level=2, transforms=chain)[3]
        assert torch.equal(done["mask"], wanted.flip(-1))
    before, middle, after = seen
    assert torch.equal(before, plain["mask"])  # functions see classes
    assert torch.equal(middle, wanted)
    assert torch.equal(after, wanted.flip(-1))


def test_functions_within_torchvision_are_functions(release_root: Path) -> None:
    relabel = v2.Lambda(lambda mask: mask + 1, tv_tensors.Mask)
    for transform in (relabel, v2.RandomApply([v2.RandomRotation(30), relabel], p=1.0)):
        with pytest.raises(LulcbenchError, match="more pixels of class"):
            LuisaSeg(release_root, sensors="landsat", transforms=transform)[3]


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("name", ["rotation", "affine", "translation", "perspective"])
@pytest.mark.parametrize("level", [1, 4, (1, 4)])
def test_batches_of_kornia(release_root: Path, name: str, keepdim: bool, level: Any) -> None:
    """Also without ``keepdim``, where Kornia's masks come back with a channel."""
    batch = LuisaSeg(release_root, sensors="landsat", level=level).read([0, 3, 9])
    make = lambda: kornia(KORNIA[name](), keepdim=keepdim)  # noqa: E731
    wanted = expected(make, batch, 5)["mask"].view(batch["mask"].shape)
    done = with_seed(lambda b: apply(make(), b, batched=True), batch, 5)
    assert torch.equal(done["mask"], wanted)
    assert (wanted == IGNORE_INDEX).sum() > (batch["mask"] == IGNORE_INDEX).sum()


def test_batches_of_torchvision_and_torchgeo(release_root: Path) -> None:
    batch = LuisaChange(release_root, level=2).read([0, 3, 9])
    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    wanted = expected(make, batch, 0)
    done = apply(make(), batch, batched=True)
    for key, mask in wanted.items():
        assert torch.equal(done[key], mask)
    assert not torch.equal(done["image_from"], batch["image_from"])
    batch = LuisaSeg(release_root, sensors="landsat", level=2).read([0, 3, 9])
    slid = with_seed(lambda b: apply(kornia(SatSlideMix(gamma=1, p=1.0)), b, batched=True), batch, 0)
    assert set(slid["mask"].unique().tolist()) <= set(batch["mask"].unique().tolist())
    mixed = kornia(K.RandomMixUpV2(p=1.0, lambda_val=(0.3, 0.4)))
    with pytest.raises((LulcbenchError, NotImplementedError, ValueError)):
        apply(mixed, batch, batched=True)


@pytest.mark.parametrize(
    "augment",
    [
        pytest.param(kornia(K.RandomRotation((30.0, 30.0), p=1.0)), id="kornia"),
        pytest.param(kornia(K.RandomRotation((30.0, 30.0), p=1.0), keepdim=False), id="kornia-without-keepdim"),
        pytest.param(nn.Sequential(Gain(0.1), kornia(K.RandomRotation((30.0, 30.0), p=1.0))), id="chain"),
        pytest.param(v2.RandomRotation((30, 30)), id="torchvision"),
    ],
)
def test_augmentation_of_the_data_module(release_root: Path, tmp_path: Path, augment: nn.Module) -> None:
    """Through a real training: batches of train are turned and their corners ignored, those of val are as they were."""

    class Seen(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.masks: dict[str, Tensor] = {}

        def training_step(self, batch: Sample, index: int) -> Tensor:
            self.masks["train"] = batch["mask"].clone()
            return self.layer(batch["image"].mean().view(1, 1)).sum()

        def validation_step(self, batch: Sample, index: int) -> None:
            self.masks["val"] = batch["mask"].clone()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.0)

    model = Seen()
    data = LuisaDataModule(root=release_root, sensors="landsat", level=2, window=4800, batch_size=4, augment=augment)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(model, datamodule=data)
    assert model.masks["train"].shape == (4, 160, 160)
    corners = model.masks["train"][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == IGNORE_INDEX).all()
    turned = v2.functional.rotate(torch.ones(1, 160, 160), 30)[0] == 0
    for mask in model.masks["train"]:
        assert int(((mask == IGNORE_INDEX) != turned).sum()) < 60  # on the very border, and labels unknown before
    assert torch.equal(
        model.masks["val"],
        LuisaSeg(release_root, split="val", sensors="landsat", level=2, window=4800).read(
            range(len(model.masks["val"]))
        )["mask"],
    )
