"""Options of the design of a sample, shared by ``validate`` and ``area``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from lulcbench.evaluation.sampling import Sampling

DesignOption = Annotated[
    str,
    typer.Option(
        help="How the points were selected: unknown, simple-random, systematic, stratified, cluster, two-phase, or the "
        "file that 'lulcbench design' wrote."
    ),
]
Strata = Annotated[str | None, typer.Option(help="Column of strata; by default strata are the map classes.")]
StrataLevel = Annotated[int | None, typer.Option(help="Legend level of strata that are map classes.", min=1, max=4)]
Sizes = Annotated[Path | None, typer.Option(help="Areas of the strata: CSV file (stratum, area).")]
Weights = Annotated[str | None, typer.Option(help="Column of weights: area that a point stands for.")]
Clusters = Annotated[str | None, typer.Option(help="Column of clusters.")]
FirstPhase = Annotated[int | None, typer.Option(help="Number of points of the first of two phases.", min=2)]
OtherMap = Annotated[bool, typer.Option("--other-map", help="The design is of another map: its strata still hold.")]


def sampling_of(
    design: str,
    strata: str | None,
    strata_level: int | None,
    sizes: Path | None,
    first_phase: int | None,
    other_map: bool,
) -> Sampling:
    """The design that the options state.

    Raises:
        LulcbenchError: there is no such design, or options contradict it.
    """
    from lulcbench.evaluation.design import Design, Kind
    from lulcbench.evaluation.sampling import Sampling, read_sizes

    if design in set(Kind):
        kind = Kind(design)
        if (first_phase is not None) and kind is not Kind.TWO_PHASE:
            raise LulcbenchError("A first phase belongs to a two-phase design.", "State --design two-phase.")
        if (strata or sizes or strata_level) and kind in (Kind.UNKNOWN, Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC):
            raise LulcbenchError(f"A sample of the design {kind.value} has no strata.", "State --design stratified.")
        if sizes is not None and strata is None:
            raise LulcbenchError("Areas of strata require a column of strata.", "Name it with --strata.")
        areas = None if sizes is None else read_sizes(sizes)
        return Sampling(kind, areas, strata_level, first_phase)
    if strata or sizes or strata_level or first_phase:
        raise LulcbenchError("The file of a design states its strata.", "Leave out the other options of strata.")
    if not Path(design).is_file():
        raise LulcbenchError(
            f"There is neither a design nor a file {design!r}.", f"Designs are {', '.join(Kind)}, or a design file."
        )
    return Sampling.of_design(Design.load(design), other_map)


def columns(sampling: Sampling, strata: str | None, weights: str | None, clusters: str | None) -> dict[str, str]:
    """Columns of the file of points to read: name → column."""
    if sampling.design is not None:
        return {"stratum": "stratum", "weight": "weight"}
    named = {"stratum": strata, "weight": weights, "cluster": clusters}
    return {name: column for name, column in named.items() if column is not None}
