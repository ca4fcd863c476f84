"""The same simulated release on every processor: libraries choose their instructions by it, and add in other orders."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import builders.simulate
from builders.simulate.mixtures import reflectance
from builders.simulate.noise import portable
from lulcbench.release import Manifest
from tests.conftest import RECIPE

# What the three libraries that choose at run time read: OpenBLAS, NumPy and the C library. On processors that lack
# these instructions anyway, the settings change nothing, and the tests pass.
PROCESSORS = {
    "avx2": {
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
    "sse4": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD,-AVX2,-FMA",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_release_has_the_same_data_on_another_processor(processor: str, release_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builders", "build", str(RECIPE), "--out", str(tmp_path / "release")]
    environment = os.environ | PROCESSORS[processor]
    built = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr[-3000:]
    assert Manifest.load(tmp_path / "release").data_digest == Manifest.load(release_root).data_digest


def test_mixtures_are_exact_sums() -> None:
    rng = np.random.default_rng(5)
    counts = rng.multinomial(64, np.full(30, 1 / 30), (7, 9)).astype(np.uint8)
    spectra = rng.uniform(0, 0.6, (30, 5)).astype(np.float32)
    mixed = reflectance(counts, spectra)
    steps = np.rint(spectra.astype(np.float64) * 2**30).astype(np.int64)
    whole = (counts[..., None].astype(np.int64) * steps).sum(2)  # integers have no order of addition
    assert np.array_equal(mixed, np.moveaxis((whole / (2**30 * 64)).astype(np.float32), 2, 0))
    # No further from the plain weighted mean than the rounding of the result.
    plain = np.einsum("hwm,mb->bhw", counts.astype(np.float64), spectra.astype(np.float64)) / 64
    assert np.abs(mixed - plain).max() < 2**-24


def test_functions_are_those_of_64_bits_rounded() -> None:
    angle = np.linspace(-9, 9, 1001, dtype=np.float32)
    found = portable(np.cos, angle)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.float32([math.cos(value) for value in angle.tolist()]))
    assert portable(np.power, 3, 0.5) == np.float32(math.sqrt(3))


def test_no_other_function_depends_on_the_processor() -> None:
    """``portable`` and the exact sums of ``reflectance`` are the only ways to call these."""
    direct = re.compile(
        r"np\.(a?(sin|cos|tan)h?|arc\w+|exp\w*|log\w*|power|cbrt|matmul|dot|inner|einsum|convolve)\("
        r"|[a-z)\]]\d? ?\*\* ?(?!2\b)[\d.]"  # cubes and fractional powers; squares are products
    )
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted(Path(builders.simulate.__path__[0]).glob("*.py"))
        for line in path.read_text().splitlines()
        if direct.search(line)
    ]
    assert [line.split(":")[0] for line in found] == ["mixtures.py"], found
