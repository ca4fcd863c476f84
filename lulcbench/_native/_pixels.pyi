"""See pixels.py and datasets/normalize.py."""

from collections.abc import Buffer

def count(
    labels: Buffer,
    predicted: Buffer,
    node_and_place: Buffer,
    class_of: Buffer,
    depth_of: Buffer,
    counts: Buffer,
    nodes: int,
    height: int,
    width: int,
    /,
) -> int: ...
def normalize(
    stored: Buffer,
    out: Buffer,
    gain: Buffer,
    bias: Buffer,
    plane: int,
    stream: bool,
    /,
) -> None: ...
