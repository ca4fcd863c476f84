"""TerraTorch, which needs an older torchgeo and therefore a folder of its own on the path of another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "terratorch"
CODE = """
import sys, warnings
warnings.simplefilter("ignore")
import lightning.pytorch as pl
from terratorch.tasks import SemanticSegmentationTask
from lulcbench import LuisaDataModule
data = LuisaDataModule(
    root=sys.argv[1], sensors="landsat", level=1, window=960, batch_size=4, keys=("image", "mask")
)
arguments = {
    "backbone": "timm_resnet18", "backbone_pretrained": False, "backbone_in_chans": 24,
    "backbone_bands": list(range(24)),
    "decoder": "FCNDecoder", "num_classes": 5,
}
task = SemanticSegmentationTask(
    model_args=arguments, model_factory="EncoderDecoderFactory", loss="ce", ignore_index=255
)
trainer = pl.Trainer(accelerator="cpu", fast_dev_run=True, logger=False, enable_progress_bar=False)
trainer.fit(task, data)
trainer.test(task, data)
print("steps", trainer.fit_loop.epoch_loop.batch_idx + 1)
"""


def test_segmentation_task_takes_the_data_module(release_root: Path) -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"not installed in {FOLDER}: make test-peers")
    path = os.pathsep.join([str(FOLDER), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(release_root)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "steps 1" in done.stdout
