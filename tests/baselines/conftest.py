"""A small EuroSAT of drawn patches, in the layout of the real archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baselines.data.eurosat import CLASSES

PER_CLASS = {"train": 6, "val": 2, "test": 3}


def draw(index: int, rng: np.random.Generator) -> np.ndarray:
    """A 64 × 64 RGB patch whose colour and stripes say its class."""
    color = np.array([60 + 19 * index, 230 - 17 * index, 40 + 50 * (index % 4)], float)
    stripes = 20 * np.sin(np.arange(64) * (0.1 + 0.1 * index))
    return np.clip(color + stripes[:, None, None] + rng.normal(0, 6, (64, 64, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def eurosat_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eurosat")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(root / "eurosat_rgb_1of1.zip", "w", zipfile.ZIP_STORED) as archive:
        number = 0
        for part, count in PER_CLASS.items():
            lines = []
            for index, name in enumerate(CLASSES):
                for _ in range(count):
                    number += 1
                    patch = io.BytesIO()
                    Image.fromarray(draw(index, rng)).save(patch, "JPEG", quality=95)
                    archive.writestr(f"{name}/{name}_{number}.jpg", patch.getvalue())
                    lines.append(f"{name}_{number}.jpg")
            (root / f"eurosat-random-{part}.txt").write_text("\n".join(lines) + "\n")
    return root
