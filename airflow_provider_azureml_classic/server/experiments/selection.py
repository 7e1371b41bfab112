"""The rows of a training run: several files put below one another, and only the rows that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.table_files import parse_number, with_point
from airflow_provider_azureml_classic.server.experiments.tables import Cells, Frame

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray


def joined(frames: Sequence[Frame], optional: Sequence[str]) -> Frame:
    """The rows of all frames, in order, with the columns of the first one.

    :param frames: at least one.
    :param optional: columns that a later frame may lack; their cells are then missing.
    :raises RequestRejected: a later frame lacks another column.
    """
    first, *others = frames
    if not others:
        return first
    columns = {}
    for name in first.columns:
        for number, frame in enumerate(others, 2):
            if name not in frame.columns and name not in optional:
                raise rejection(
                    "InputMismatchError",
                    f"Table {number} has no column {name!r}, which the first one has; "
                    f"its columns are: {', '.join(frame.columns)}.",
                    target=name,
                )
        columns[name] = _below([_cells(frame, name) for frame in frames])
    return Frame(columns, sum(frame.rows for frame in frames))


def _cells(frame: Frame, name: str) -> Cells:
    import numpy as np

    cells = frame.columns.get(name) or Cells([""], np.zeros(frame.rows, np.int32))
    if not frame.decimal_comma:
        return cells
    # What is written with a comma here may be written with a point in the other file.
    return Cells([with_point(cell) for cell in cells.distinct], cells.codes)


def _below(parts: Sequence[Cells]) -> Cells:
    import numpy as np

    known: dict[str, int] = {}
    codes = []
    for cells in parts:
        place = np.array([known.setdefault(cell, len(known)) for cell in cells.distinct], np.int32)
        codes.append(place[cells.codes])
    return Cells(list(known), np.concatenate(codes))


def chosen(frame: Frame, rows: Mapping[str, str]) -> Frame:
    """The rows whose cells are the ones given.

    :param frame: all rows.
    :param rows: cell by column; an empty cell stands for any.
    :raises RequestRejected: there is no such column, or no row is left.
    """
    for name, cell in rows.items():
        if not cell:
            continue
        if name not in frame.columns:
            raise rejection(
                "InputMismatchError",
                f"Rows are chosen by the column {name!r}, which the data does not have; "
                f"its columns are: {', '.join(frame.columns)}.",
                target=name,
            )
        mask = frame.columns[name].where(partial(_same, frame, cell))
        if not mask.any():
            raise rejection("InputMismatchError", f"No row has {cell!r} in the column {name!r}.", target=name)
        frame = _masked(frame, mask)
    return frame


def _same(frame: Frame, wanted: str, found: str) -> bool:
    number = frame.number(found)
    return found == wanted.strip() or (number is not None and number == parse_number(wanted))


def _masked(frame: Frame, mask: NDArray[bool_]) -> Frame:
    import numpy as np

    columns = {}
    for name, cells in frame.columns.items():
        # Cells that no row has any more must not be learnt.
        used, codes = np.unique(cells.codes[mask], return_inverse=True)
        columns[name] = Cells([cells.distinct[code] for code in used.tolist()], codes.astype(np.int32))
    return Frame(columns, int(mask.sum()), frame.decimal_comma)
