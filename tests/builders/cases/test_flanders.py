"""Quality of Landsat Collection 1 as that of Collection 2: codes of the product guides of the USGS."""

from __future__ import annotations

import numpy as np

from builders.archives.landsat import check_quality, is_clear, is_seen
from builders.cases.flanders import collection2_qa

# pixel_qa of Landsat 8 (LSDS-1368, table 6-3): clear, water, shadow, snow, cloud, with their confidences.
FILL, CLEAR, WATER, SHADOW, SNOW, CLOUD, CIRRUS = 1, 322, 324, 328, 336, 480, 834


def test_codes_of_collection_1_are_valid_ones_of_collection_2() -> None:
    old = np.array([0, FILL, CLEAR, WATER, SHADOW, SNOW, CLOUD, CIRRUS])
    new = collection2_qa(old)
    assert check_quality(new) == ""
    assert is_clear(new[2:]).tolist() == [True, True, False, True, False, False]
    assert is_seen(new[:2]).tolist() == [False, False]
    # QA_PIXEL (LSDS-1619, table 6-2): water 7, no cloud 6, snow 5, shadow 4, cloud 3, cirrus 2.
    assert new[2:].tolist() == [1 << 6, 1 << 6 | 1 << 7, 1 << 6 | 1 << 4, 1 << 6 | 1 << 5, 1 << 3, 1 << 6 | 1 << 2]
