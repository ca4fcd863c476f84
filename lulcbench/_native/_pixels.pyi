"""Types of the C extension; used by evaluation/_pixels.py, datasets/normalize.py and legend/decisions.py."""

from collections.abc import Buffer

def count_maps(
    labels: Buffer,
    predicted: Buffer,
    node_and_path: Buffer,
    class_of: Buffer,
    depth_of: Buffer,
    pair_of: Buffer,
    counts: Buffer,
    tallies: Buffer,
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
def decide(p: Buffer, over: Buffer, out: Buffer, /) -> None: ...
