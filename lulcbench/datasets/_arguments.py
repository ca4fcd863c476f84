"""Checks of the arguments of ``LuisaDataModule`` when it is constructed, before anything is read."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from lulcbench.datasets._options import integer
from lulcbench.errors import LulcbenchError


def check_arguments(
    dataset: Any,
    options: Mapping[str, Any],
    train: Any,
    test: Any,
    counts: Mapping[str, tuple[Any, int]],
    augment: Any,
    resident: Any,
) -> None:
    """Check what can be checked without a release.

    Args:
        dataset: class of the datasets.
        options: its options for all splits.
        train: its options for the train split.
        test: its options for the other splits.
        counts: whole numbers and their minima, by argument.
        augment: called with each training batch.
        resident: whether samples are kept in memory.

    Raises:
        LulcbenchError: an argument has another type or value, or the dataset class has no such option.
    """
    if not callable(dataset):
        raise LulcbenchError(f"dataset is {dataset!r}.", "Pass the class itself, such as lulcbench.LuisaSeg.")
    for name, (value, least) in counts.items():
        if integer(value, name) < least:
            raise LulcbenchError(f"{name} is {value!r}.", f"Use {least} or more.")
    if augment is not None and not callable(augment):
        raise LulcbenchError(f"augment is {augment!r}.", "Use a module, such as torch.nn.Sequential(...).")
    if resident not in (True, False, "auto"):
        raise LulcbenchError(f"resident is {resident!r}.", 'Use True, False or "auto".')
    for name, given in (("train", train), ("test", test)):
        if not isinstance(given, Mapping):
            raise LulcbenchError(f"{name} is {given!r}.", f"Use a dict of options, such as {name}={{'stride': 600}}.")
    parameters = inspect.signature(dataset).parameters.values()
    known = [option.name for option in parameters if option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY)]
    class_name = getattr(dataset, "__name__", str(dataset))
    for given in (options, train, test):
        if "split" in given and given is not train:  # training on train and val, say, is a choice of the dataset class
            raise LulcbenchError(
                "The data module has several splits.", "Name them by train_split=, val_split= and so on."
            )
        for name in given:
            if name not in known and not any(option.kind is option.VAR_KEYWORD for option in parameters):
                raise LulcbenchError(
                    f"Neither LuisaDataModule nor {class_name} has an option {name!r}.",
                    _nearest(name, known, class_name),
                )
    if "phase" in test:
        raise LulcbenchError("phase applies to training only.", "Leave it out of test=….")
    missing = [
        option.name
        for option in parameters
        if option.default is option.empty and option.name in known and option.name not in {"split", *options}
    ]
    if missing:
        raise LulcbenchError(
            f"{class_name} needs {', '.join(missing)}.", f"Pass it to LuisaDataModule: {missing[0]}=…."
        )


def has_option(dataset: Any, name: str) -> bool:
    """Whether a class of datasets names an option in its signature."""
    return name in inspect.signature(dataset).parameters


def _nearest(name: str, known: list[str], class_name: str) -> str:
    own = ["batch_size", "num_workers", "augment", "balanced", "resident", "resident_gib", "drop_last", "pad", "seed"]
    own += [f"{role}_split" for role in ("train", "val", "test", "predict")]
    near = difflib.get_close_matches(name, [*known, *own], n=3)
    return f"Did you mean {' or '.join(near)}?" if near else f"{class_name} has {', '.join(known)}."
