"""The figure class of the project."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that notebooks show by itself, without a GUI, pyplot or ``%matplotlib inline``."""

    def _repr_png_(self) -> bytes:
        """PNG, by which IPython displays an object."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()
