"""The data module for torchgeo's command line, which takes subclasses of its own data modules alone."""

from __future__ import annotations

from typing import Any, ClassVar

from torchgeo.datamodules import BaseDataModule

from lulcbench.datasets.datamodule import LuisaDataModule


class TorchGeoDataModule(LuisaDataModule, BaseDataModule):  # type: ignore[misc]
    """``LuisaDataModule`` for ``torchgeo fit --config``; it takes the same arguments.

    Examples:
        >>> from lulcbench.datasets.torchgeo import TorchGeoDataModule
        >>> TorchGeoDataModule(root=root, sensors="landsat", batch_size=4).batch_size
        4
    """

    kwargs: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # torchgeo downloads with these; datasets do that themselves
