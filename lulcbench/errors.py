"""What lulcbench raises for bad input."""


class LulcbenchError(ValueError):
    """Bad input: says what is wrong, where, and what to do next.

    The command lines turn it into a message and exit code 2; everything else is a bug and keeps its traceback.

    Args:
        what: what is wrong and where (a file, a field, a code), one sentence.
        remedy: what to do next, one sentence.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  → {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class DamagedRelease(LulcbenchError):
    """A file of the release itself is missing or altered; whatever was to be read with it is not at fault."""
