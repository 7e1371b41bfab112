"""What a request or a file may hold, and what may be made of it: the bounds of all readers, in one table. Pure.

Rule 1: what a reader makes is bounded by what it reads, times a number that a test measures for every reader.
Rule 2: no honest request meets a bound; the error that says so says what to do instead.
"""

from __future__ import annotations

#: Cells of one table of a scoring call, and of its answer. A body of 4 MiB cannot write as many in the table form.
MAX_CELLS = 1 << 21
#: Letters of all cells of a file that is read as the rows of a scoring call, whose body takes no more.
MAX_LETTERS = 4 << 20
#: Cells of a table of objects with different names: so many in any case, and so many more for each that is written.
FREE_CELLS, CELLS_A_CELL = 1 << 18, 64
#: Letters of the column names of an answer that repeats them in each row.
MAX_REPEATED_NAMES = 1 << 27
#: Letters of a row of a file, and its columns.
MAX_RECORD, MAX_COLUMNS = 1 << 24, 1 << 17
#: Columns of a file that is read as the rows of a scoring call, unless the model has many: each takes kilobytes and a
#: tenth of a millisecond, however few its rows are.
MAX_CALL_COLUMNS = 1 << 13
#: Cells that sparse rows of ARFF stand for: so many in any case, and so many more for each letter of the rows.
FREE_SPARSE_CELLS, SPARSE_CELLS_A_LETTER = 1 << 24, 64
#: Letters of what a person writes about an endpoint.
MAX_DESCRIPTION = 4096
#: Letters of a name or address of a blob, of the token or the connection string that opens it.
MAX_ADDRESS = 4096
#: Letters of one value of ``GlobalParameters``.
MAX_PARAMETER = 16_384
#: Parameters of a query, and fields of a form.
MAX_FIELDS = 200
#: Calls that an endpoint may keep for rehearsals.
MAX_KEPT_CALLS = 10_000
#: Bytes of a declaration.
MAX_DECLARATION = 1 << 20
