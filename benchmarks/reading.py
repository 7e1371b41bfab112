"""Reading and encoding a large CSV file, against a script of pyarrow and numpy that takes the same file as it comes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.common import ROOT, WORK, Figure, Result, interleaved, median, say, spread

_ROWS = 1_000_000
#: Different texts of the columns of texts.
_CATEGORIES = (3, 8, 16, 40, 100, 1000)
MEASURED = """
import sys, time
{imports}
start = time.process_time()
{work}
# What the kernel reports at the end of a process counts its parent, too.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(matrix.shape, time.process_time() - start, int(peak) / 1024)
"""
#: Numbers as the library reads them, texts as codes, the label as codes; nothing is checked.
_SCRIPT = MEASURED.format(
    imports="import numpy as np, pyarrow as pa\nfrom pyarrow import csv",
    work="""
table = csv.read_csv(sys.argv[1], read_options=csv.ReadOptions(use_threads=False))
matrix = np.empty((table.num_rows, len(table.column_names) - 1), np.float32, order="F")
for position, name in enumerate(table.column_names[:-1]):
    column = table[name].combine_chunks()
    if pa.types.is_string(column.type):
        column = column.dictionary_encode().indices
    matrix[:, position] = column.to_numpy(zero_copy_only=False)
truth = table["label"].combine_chunks().dictionary_encode().indices.to_numpy()
""",
)
#: The same rows, by the reader of this package: kinds are decided, rows and quotes are checked, NA is no value.
_OURS = MEASURED.format(
    imports="""
import numpy as np, pyarrow.csv, pyarrow.compute
from pathlib import Path
from airflow_provider_azureml_classic.tables import kinds, reading
""",
    work="""
table = reading.read(Path(sys.argv[1]), "CSV")
names = table.names[:-1]
decision = kinds.decide(table, names).check()
matrix = np.empty((table.rows, len(names)), np.float32, order="F")
for position, name in enumerate(names):
    kind = decision.kinds[name]
    if kind.kind == kinds.NUMBER:
        matrix[:, position] = kinds.read_numbers(table, name, kind, decision.decimal)
    else:
        matrix[:, position] = kinds.read_categories(table, name, kind).codes
    del table.columns[name]
truth = kinds.read_categories(table, "label", kinds.Kind(kinds.TEXT)).codes
""",
)


def write_rows(path: Path, rows: int, quoted: bool = False) -> None:
    """Write a CSV file of 13 columns: 6 of numbers, 6 of texts, and a label of two classes.

    :param path: the file.
    :param rows: of data.
    :param quoted: whether texts stand in quotes.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    generator = np.random.default_rng(0)
    columns = {
        "age": generator.integers(0, 100, rows),
        "size": np.round(generator.normal(50, 10, rows), 3),
        "amount": generator.integers(0, 10**7, rows),
        "hour": generator.integers(0, 24, rows),
        "price": np.round(generator.lognormal(3, 1, rows), 2),
        "customer": generator.integers(0, 10**6, rows),
    }
    for number, count in enumerate(_CATEGORIES):
        texts = np.array([f"value {position}" for position in range(count)])
        columns[f"text{number}"] = texts[generator.integers(0, count, rows)]
    noise = generator.normal(0, 5, rows)
    columns["label"] = np.array(["no", "yes"])[(columns["size"] + noise > 50).astype(int)]
    style = "needed" if quoted else "none"
    csv.write_csv(pa.table(columns), path, csv.WriteOptions(quoting_style=style, quoting_header=style))


def measured(program: str, path: Path) -> tuple[float, float]:
    """Processor seconds and MiB at most of a fresh process.

    :param program: what it runs.
    :param path: the file that it reads.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def run(rounds: int = 5, rows: int = _ROWS) -> Result:
    """Measure.

    :param rounds: fresh processes of each.
    :param rows: of the files.
    """
    WORK.mkdir(exist_ok=True)
    result = Result(
        "reading",
        f"Reading and encoding {rows:,} rows of 13 columns",
        columns=["file", "seconds", "of the script", "MiB", "of the script"],
    )
    noise = []
    for name, quoted in (("plain", False), ("texts in quotes", True)):
        path = WORK / f"reading-{int(quoted)}.csv"
        write_rows(path, rows, quoted)
        say(f"{name}: {path.stat().st_size >> 20} MiB")
        found = interleaved(
            rounds, {"ours": partial(measured, _OURS, path), "script": partial(measured, _SCRIPT, path)}
        )
        path.unlink()
        (seconds, memory), (script, script_memory) = (
            [median([one[i] for one in found[who]]) for i in range(2)] for who in ("ours", "script")
        )
        noise.append(spread([one[0] for one in found["script"]]))
        result.table.append([name, round(seconds, 2), round(script, 2), round(memory), round(script_memory)])
        result.figures += [
            Figure(f"processor, {name}", f"{seconds:.2f} s", f"{script:.2f} s", seconds / script, "<= 1.5"),
            Figure(
                f"memory, {name}", f"{memory:.0f} MiB", f"{script_memory:.0f} MiB", memory / script_memory, "<= 1.2"
            ),
        ]
    result.noise = f"Noise: the script spread by {max(noise):.0%} in {rounds} rounds."
    result.notes = ["Processor seconds of fresh processes, imports not counted; both read with one thread."]
    return result
