"""The stages of run.py that show where a kernel's time goes: every tile at several numbers of rows beside cuBLAS, a fit of the tile model
to them, and the profiler's counters of the main kernels."""
import csv
import io
import math
import re
from pathlib import Path

import build
from harness import ends, summary, whole_lines

SMALL = ("--sizes", "small", "--rounds", 1, "--launches", 1)


# ---- tiles x families x rows x products

def sweep(run, content):
    """Measures every tile for the four products of a block, measures PyTorch beside them, and compares the times with the tile model."""
    options = SMALL if run.options.emulation else ("--rounds", 3, "--launches", 10)
    with run.clocks(content):
        done = run.command(run.build / "mome_device_bench", *options, "--sweep", "yes", timeout=75)
        device, *lines = whole_lines(done.stdout) or [{}]
        content["multiprocessors"] = device.get("multiprocessors")
        content["figures"] = [line | {"seconds": min(line["seconds"])} for line in lines]
        run.save()
        if not run.options.emulation:
            run.attempt(content, "cublas", lambda: peer_sweep(run))
    content["best"] = best_of(content["figures"], content.get("cublas", {}))
    content["fit"] = fit(content["figures"], content["multiprocessors"], (content["clocks"].get("clocks.sm") or [None, None, None])[1])
    if done.returncode != 0 or not lines:
        raise RuntimeError(ends(done, 500))
    content["passed"] = True


def peer_sweep(run):
    """Product and rows ("qkv 197") to PyTorch's least seconds."""
    import figures
    return {name: min(seconds) for name, seconds in figures.peer(run, "sweep", timeout=60).items()}


def best_of(lines, cublas):
    """Product and rows to the tile of least time, and cuBLAS's time over it."""
    best = {}
    for line in lines:
        name = f"{line['product']} {line['rows']}"
        if line["epilogue"] and line["seconds"] < best.get(name, {"seconds": math.inf})["seconds"]:
            best[name] = {key: line[key] for key in ("family", "tile", "seconds")} | {"teraflops": line["flops"] / line["seconds"] / 1e12}
    for name, entry in best.items():
        if isinstance(cublas.get(name), float):
            entry["shareOfCublas"] = cublas[name] / entry["seconds"]
    return best


def fit(lines, multiprocessors, megahertz):
    """The tile model of native/cuda/config/gemm_tile.h for each tile that was measured: seconds = first + perWave * waves + perStep *
    waves * depth by least squares of the relative error, with whole waves. With clocks also in cycles and as multiply-adds a
    multiprocessor does in one."""
    groups = {}
    for line in lines:
        if line["epilogue"]:
            groups.setdefault((line["family"], line["tile"]), []).append(line)
    found = {}
    for (family, tile), each in groups.items():
        rows, columns = each[0]["tileRows"], each[0]["tileColumns"]
        waves = lambda line: math.ceil(math.ceil(line["rows"] / rows) * math.ceil(line["columns"] / columns) / multiprocessors)
        terms = [(1, waves(line), waves(line) * line["depth"]) for line in each]
        solved = least_squares([[term / line["seconds"] for term in of] for of, line in zip(terms, each)], [1.0] * len(each))
        if solved is None:
            continue
        modelled = [sum(c * term for c, term in zip(solved, of)) for of in terms]
        entry = dict(zip(("firstSeconds", "secondsPerWave", "secondsPerWaveAndDepth"), solved))
        entry["worstError"] = max(abs(m / line["seconds"] - 1) for m, line in zip(modelled, each))
        if megahertz and solved[2] > 0:
            cycles = [1e6 * megahertz * value for value in solved]
            entry |= {"firstCycles": cycles[0], "cyclesPerWave": cycles[1], "productsPerCycle": rows * columns / cycles[2]}
        found[f"{family} {rows} x {columns}"] = entry
    return found


def least_squares(rows, values):
    """The coefficients that bring sums over each row nearest to its value, or None where the rows do not tell them apart."""
    n = len(rows[0])
    # Columns are brought to length 1 first: seconds and their reciprocals lie many powers of ten apart.
    scale = [math.sqrt(sum(row[i] ** 2 for row in rows)) or 1.0 for i in range(n)]
    rows = [[value / s for value, s in zip(row, scale)] for row in rows]
    system = [[sum(row[i] * row[j] for row in rows) for j in range(n)] + [sum(row[i] * v for row, v in zip(rows, values))] for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(system[k][i]))
        if abs(system[pivot][i]) < 1e-12:
            return None
        system[i], system[pivot] = system[pivot], system[i]
        for k in range(n):
            if k != i:
                factor = system[k][i] / system[i][i]
                system[k] = [a - factor * b for a, b in zip(system[k], system[i])]
    return [system[i][n] / system[i][i] / scale[i] for i in range(n)]


# ---- the profiler

SECTIONS = ("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "SchedulerStats", "WarpStateStats")
METRICS = ("gpu__time_duration.sum", "sm__inst_executed_pipe_tensor.sum", "lts__t_bytes.sum", "dram__bytes.sum")
# The columns that are kept: busy tensor cores and issue slots, bytes of cache and memory, and the reasons why warps wait.
WANTED = re.compile(r"pipe_tensor.*(active|cycles)|issue_active|inst_issued|lts__t_bytes|dram__bytes|gpu__time_duration|issue_stalled.*(ratio|pct)|stall", re.IGNORECASE)


def profile(run, content):
    """What ncu counts in the kernels of mome_device_bench, the second launch of each; the whole table is kept beside the result."""
    words = ["ncu", "--clock-control", "none", "--csv", "--page", "raw", "--kernel-name-base", "mangled", "--target-processes", "all"]
    words += [word for section in SECTIONS for word in ("--section", section)] + ["--metrics", ",".join(METRICS)]
    done = run.command(*words, run.build / "mome_device_bench", "--rounds", 1, "--launches", 1, timeout=100)
    table = done.stdout[max(done.stdout.find('"ID"'), 0):]
    content["kernels"] = counted(table)
    content["file"] = build.keep(Path(run.options.out).parent / "ncu.csv", table)
    if done.returncode != 0 or not content["kernels"]:
        raise RuntimeError(ends(done, 800))


def counted(table):
    """Kernel (of build.MAIN_KERNELS, or its own name) to the wanted columns of its last launch."""
    kernels = {}
    rows = csv.DictReader(io.StringIO(table))
    for row in rows:
        name = row.get("Kernel Name") or ""
        if not (row.get("ID") or "").isdigit():
            continue  # the line of units
        kernel = next((each for each, pattern in build.MAIN_KERNELS.items() if re.search(pattern, name)), name[:120])
        kernels[kernel] = {column: number(value) for column, value in row.items() if column and value and WANTED.search(column)}
    return kernels


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text
