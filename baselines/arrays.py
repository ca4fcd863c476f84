"""Reading of ``.npz`` files, which may be damaged."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError


def read_arrays(path: Path, remedy: str) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an ``.npz`` file by name, without pickle.

    Args:
        path: the file.
        remedy: what to do if it is damaged.

    Raises:
        LulcbenchError: the file is missing or damaged.
    """
    try:
        # From memory: of a damaged file, NumPy leaves the handle open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    # zipfile, zlib, tokenize and NumPy raise errors of their own, without a common base class.
    except Exception as error:
        raise LulcbenchError(f"{path} is damaged: {error!r}.", remedy) from error
