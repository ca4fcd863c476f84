"""Exported models predict what the models themselves predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lulcbench.maps import MapModel


@pytest.mark.parametrize("kind", ["unet", "deeplabv3plus", "forest", "majority"])
def test_an_exported_model_predicts_what_the_model_does(kind: str, fitted, exported) -> None:
    model = MapModel.open(exported(kind))
    predict = model.predictor()
    rng = torch.Generator().manual_seed(1)
    for size in ((96, 160), (64, 64)):
        image = torch.randn(1, 24, *size, generator=rng)
        image[:, :, :9, :9] = 0  # nodata
        with torch.inference_mode():
            expected = fitted(kind).predictor(image)[0].numpy()
        p = predict({"landsat": image[0].numpy()})
        assert p.dtype == np.float32
        assert p.shape == expected.shape == (41, *size)
        assert np.abs(p - expected).max() <= 1e-4
