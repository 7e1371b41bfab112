"""Data files: what their cells are, and what the cells mean. The one place where a file of data is read.

Rule 1: as many rows are used as were sent, or an error names the row. Nothing is skipped but blank lines.
Rule 2: a cell is a text until its whole column has been looked at; then the column has one kind.
Rule 3: what a single cell means is decided in :mod:`~.tables.spelling`, for files and for calls alike.
Rule 4: pyarrow and numpy are imported at the first file, never with these modules.

::

    reading   a file or pieces of one -> tables of texts, whole or in blocks
      encodings  bytes -> UTF-8       quotes     where a row ends       delimited, arff, parquet: the formats
    kinds     a table, declarations and earlier kinds -> the kind of each column
      dates      day or month first, one decision for a column
    values    a column and its kind -> numbers, or categories and codes
    rows      a whole file -> what a scoring call sends
    description  what a person should see of each column before a model is trained
"""
