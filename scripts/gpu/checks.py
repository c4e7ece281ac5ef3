"""The stages of run.py that pass or fail: the smoke gate, kernels against `ref`, the reference cases, the base model with every tile,
sanitizers, the addon.

None of them measures anything, so programs that check run side by side.
"""
import array
import concurrent.futures
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

from harness import PROGRAMS, ROOT, ends, floats_of, int_arrays, model_runs, read_checkpoint, read_safetensors, whole_lines, write_manifest

GOLDEN = ROOT / "ts" / "test" / "golden"
TINY_BOUND, COSINE_BOUND = 2e-5, 0.999  # as `mome verify`: float32 relative L2, bfloat16 cosine


def side_by_side(work, items):
    """work(item) of each item, a few at a time, as a list."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count())) as pool:
        return list(pool.map(work, items))


def machine(run, content):
    content["python"] = sys.version.split()[0]
    content["cores"] = len(os.sched_getaffinity(0))
    for name, words in {"nvcc": ("nvcc", "--version"), "compiler": ("g++", "--version"), "commit": ("git", "rev-parse", "HEAD")}.items():
        lines = run.command(*words).stdout.strip().splitlines()
        content[name] = lines[-1 if name == "nvcc" else 0] if lines else None
    fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    values = run.command("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader").stdout.strip().splitlines()
    if values:
        content |= dict(zip(fields.split(","), values[0].split(", ")))
    content["torch"] = run.command(sys.executable, "-c", "import torch; print(torch.__version__)").stdout.strip() or None


# ---- kernels

FAMILIES = {"sm90": 4, "sm80": 3}  # tiles of each family of products


def compared(said):
    found = re.search(r"^(\d+) comparisons with ref", said, re.MULTILINE)
    return int(found[1]) if found else 0


def failures(done):
    """The first cases that failed and the end of the output. Between them are only lists of cases and maps of errors."""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    return "\n".join([line[:600] for line in lines if line.startswith("FAILED")][:10] + ["..."] + [line[:600] for line in lines[-3:]] + [done.stderr[-1000:]])


def maps(done, most=4):
    """The error maps of the first wrong outputs."""
    return [line["map"] for line in whole_lines(done.stdout) if "map" in line][:most]


def by_op(said, counts):
    """Adds the cases in mome_kernels' output to `counts`: op to type to numbers of compared and failed cases. A case during which it
    ended has failed."""
    case = failed = None
    for line in said.splitlines():
        begun = re.match(r"case (\w+) (float32|bfloat16) ", line)
        if case and (begun or compared(line)):
            case["compared"] += 1
            case["failed"] += failed
            case = None
        if begun:
            case, failed = counts.setdefault(begun[1], {}).setdefault(begun[2], {"compared": 0, "failed": 0}), False
        failed = failed or line.startswith("FAILED")
    if case:
        case["compared"] += 1
        case["failed"] += 1


def mome_kernels(run, *words, timeout=60, **environment):
    return run.command(run.build / "mome_kernels", *words, timeout=timeout, MOME_VERBOSE="1", **environment)


# ---- the smoke gate

def smoke_of(run, content, families):
    """Runs a few small bfloat16 products with every tile, each in a process of its own and for ten seconds at most. Records failures;
    returns whether all passed."""
    slow = run.options.emulation  # one tile of each is enough to rehearse with, and takes its time
    tiles = [(family, tile) for family in families for tile in range(1 if slow else FAMILIES[family])]
    one = lambda each: mome_kernels(run, "--mode", "cuda-smoke", timeout=6 * SMOKE_SECONDS if slow else SMOKE_SECONDS, MOME_GEMM_FAMILY=each[0], MOME_GEMM_TILE=str(each[1]))
    done = side_by_side(one, tiles)
    # A kernel that hangs gives up before this limit. A process that reached the limit may have had too little of a shared processor: it
    # gets a second try alone. Once a second try fails too, the others get none.
    for i, each in enumerate(tiles):
        if done[i].returncode == 124:
            done[i] = one(each)
            if done[i].returncode == 124:
                break
    for (family, tile), each in zip(tiles, done):
        passed = each.returncode == 0 and compared(each.stdout) > 0
        content[f"{family} tile {tile}"] = "passed" if passed else {"output": failures(each), "maps": maps(each, 2)}
    return all(content[f"{family} tile {tile}"] == "passed" for family, tile in tiles)


SMOKE_SECONDS = 10


def smoke(run, content):
    """Checks whether products are right at all. If those for Hopper are wrong, later stages use those for Ampere, and `diagnose` examines
    Hopper's at the end."""
    passed = {family: smoke_of(run, content, [family]) for family in FAMILIES}
    if not passed["sm90"]:
        run.family = run.environment["MOME_GEMM_FAMILY"] = "sm80"
        content["goesOnWith"] = "sm80"
    content["passed"] = all(passed.values())


def diagnose(run, content):
    """Of each tile that failed in the smoke gate: which place it reads, and which of its ops fail; then memcheck's word."""
    gate = run.result["stages"].get("smoke", {})
    failed = [(family, tile) for family, tiles in FAMILIES.items() for tile in range(tiles) if isinstance(gate.get(f"{family} tile {tile}"), dict)]
    if not failed:
        content["skipped"] = "the smoke gate did not fail"
        return
    for family, tile in failed:
        environment = {"MOME_GEMM_FAMILY": family, "MOME_GEMM_TILE": str(tile)}
        entry = content[f"{family} tile {tile}"] = {}
        probes = mome_kernels(run, "--mode", "cuda-probe", timeout=15, **environment)
        entry["probes"] = maps(probes) or failures(probes)
        run.save()
    ops = [each["op"] for each in listed_ops(run) if each["product"] and each["type"] == "bfloat16"]
    family, tile = failed[0]
    environment = {"MOME_GEMM_FAMILY": family, "MOME_GEMM_TILE": str(tile)}
    done = side_by_side(lambda op: mome_kernels(run, "--mode", "cuda-smoke", "--op", op, timeout=15, **environment), ops)
    content["ops"] = {op: "passed" if each.returncode == 0 else failures(each) for op, each in zip(ops, done)}
    content["memcheck"] = ends(run.command("compute-sanitizer", "--tool", "memcheck", run.build / "mome_kernels", "--mode", "cuda-probe", timeout=60, **environment), 1500)


# ---- every case of every kernel

def listed_ops(run):
    return whole_lines(mome_kernels(run, "--mode", "cuda-ops").stdout)


def kernel_runs(run):
    """Name to (words, environment): a process for each op and type, since after an error that a device does not recover from every later
    case of a process fails; then all products with each tile. Fewer multiprocessors than tiles: what blocks that stay for several do."""
    emulation, runs = run.options.emulation, {}
    mode = "cuda-subset" if emulation else "cuda"  # the native tests run it in full
    for name, environment in {"as chosen": {}, "few multiprocessors": {"MOME_MULTIPROCESSORS": "4"}}.items():
        if emulation and environment:
            continue
        for each in listed_ops(run):
            runs[f"{name}, {each['op']} {each['type']}"] = (["--mode", mode, "--op", each["op"], "--type", each["type"]], environment)
    if emulation:
        return runs | {"sm90 tile 0, one multiprocessor": (["--mode", "cuda-smoke", "--op", "qkv"], {"MOME_GEMM_TILE": "0", "MOME_MULTIPROCESSORS": "1"})}
    for family, tiles in FAMILIES.items():
        for tile in range(tiles if family == run.family or family == "sm80" else 0):
            # Of the largest tiles a case has few: one block takes them all.
            for few, multiprocessors in (("", {}), (", four multiprocessors", {"MOME_MULTIPROCESSORS": "4"}), (", one multiprocessor", {"MOME_MULTIPROCESSORS": "1"})):
                runs[f"{family} tile {tile}{few}"] = (["--mode", "cuda-gemm"], {"MOME_GEMM_FAMILY": family, "MOME_GEMM_TILE": str(tile)} | multiprocessors)
    return runs


def kernels(run, content):
    runs = kernel_runs(run)
    done = dict(zip(runs, side_by_side(lambda each: mome_kernels(run, *each[0], timeout=120, **each[1]), runs.values())))
    content["compared"] = {"as chosen": 0}
    for name, each in done.items():
        part = name.split(", ")[0] if name.startswith(("as chosen", "few")) else name
        content["compared"][part] = content["compared"].get(part, 0) + compared(each.stdout)
    # A process that compared nothing and says that it passed has shown nothing.
    content["failed"] = {name: {"exit": each.returncode, "output": failures(each), "maps": maps(each)} for name, each in done.items() if each.returncode != 0 or not compared(each.stdout)}
    content["ops"] = {}
    for each in done.values():
        by_op(each.stdout, content["ops"])
    content["passed"] = not content["failed"] and all(content["compared"].values()) and bool(done)
    run.save()
    products = [name for name in content["failed"] if any(f", {each['op']} bfloat16" in name for each in listed_ops(run) if each["product"]) or " tile " in name]
    for name in products[:6]:
        probes = mome_kernels(run, "--mode", "cuda-probe", timeout=15, **runs[name][1])
        content["failed"][name]["probes"] = maps(probes) or failures(probes)
        run.save()


# ---- reference cases

def padded(rows, width, begins, lengths, length):
    """Rows of several sequences, one behind the other, as [sequences, length, width] with zeros behind each."""
    out = array.array("f")
    for begin, count in zip(begins, lengths):
        out += rows[begin * width:(begin + count) * width] + array.array("f", bytes(4 * (length - count) * width))
    return out


def product(a, b):
    return sum(x * y for x, y in zip(a, b))


def compare(actual, expected, dtype, bend):
    """Verdict of one output; with `bend` one of the expected numbers is changed first."""
    if len(actual) != len(expected):
        raise ValueError(f"expected {len(expected)} numbers, got {len(actual)}")
    expected = list(expected)
    if bend:
        largest = max(range(len(expected)), key=lambda i: abs(expected[i]))
        expected[largest] *= -1
    difference = [a - e for a, e in zip(actual, expected)]
    relative = math.sqrt(product(difference, difference) / product(expected, expected))
    lengths = math.sqrt(product(actual, actual) * product(expected, expected))
    cosine = product(actual, expected) / lengths if lengths else 0.0
    passed = relative <= TINY_BOUND if dtype == "float32" else cosine >= COSINE_BOUND
    return {"relL2": relative, "cosine": cosine, "passed": passed and all(map(math.isfinite, actual))}


class Case:
    """A reference case: its programs, weights, pixels and recorded outputs."""

    def __init__(self, name):
        self.name = name
        self.stored = json.loads((PROGRAMS / f"{name}.json").read_text())
        self.weights = read_checkpoint(GOLDEN / name / "weights.pt")
        self.recorded = read_safetensors(GOLDEN / name / "outputs.safetensors")
        self.pixels = read_safetensors(GOLDEN / name / "inputs.safetensors")["image"].values

    def run_of(self, sizes, **more):
        return {"dims": sizes["dims"], "arrays": int_arrays(sizes["inputs"]) | {"pixels": self.pixels}, **more}


def golden_part(run, case, name, dtype):
    """Checks of one program of a case in one type, and whether a changed number of each was noticed."""
    part = case.stored["parts"][name]
    # A run whose experts' rows end elsewhere, which shares the recording.
    runs = [case.run_of(part)] + ([case.run_of(part["between"], between=True)] if "between" in part else [])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        manifest = write_manifest(Path(folder), part["program"], runs, case.weights)
        # Three times: launched, recorded, replayed.
        done = run.command(run.build / "mome_run", manifest, "--device", "cuda", "--dtype", dtype, "--repeat", 3, "--out", out, timeout=60, MOME_TRACE="recordings")
        ways = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("run: ")]
        once = ways == ["launched,", "recorded,"] + ["replayed,"] * (4 if len(runs) > 1 else 1)
        checks, noticed = [{"name": f"{case.name} {name} {dtype} is recorded once", "passed": once}], []
        if done.returncode != 0:
            return checks + [{"name": f"{case.name} {name} {dtype}", "passed": False, "error": done.stderr[-500:]}], noticed
        values, outputs, offset = floats_of(out), {}, 0
    for output in json.loads(done.stdout)["outputs"]:
        outputs[output["name"]] = values[offset:offset + output["count"]]
        offset += output["count"]
    for output in part["outputs"]:
        expected, actual = case.recorded[output["golden"]].values, outputs[output["name"]]
        if "rows" in output:
            rows = output["rows"]
            actual = padded(actual, case.stored["width"], rows["begins"], rows["lengths"], rows["length"])
        actual = actual[:len(expected)]  # rows behind the last sequence round the size up
        checks.append({"name": f"{case.name} {output['golden']} {dtype}", **compare(actual, expected, dtype, False)})
        noticed.append(not compare(actual, expected, dtype, True)["passed"])
    return checks, noticed


def golden(run, content):
    cases = [Case(name) for name in ("tiny_absolute", "tiny_relative")]
    parts = [(case, name, dtype) for case in cases for name in case.stored["parts"] for dtype in ("float32", "bfloat16")]
    if run.options.emulation:  # one of each type, one with a run between
        parts = [(cases[0], "dual", "float32"), (cases[1], "dual in buckets", "bfloat16")]
    done = side_by_side(lambda part: golden_part(run, *part), parts)
    checks = [check for each, _ in done for check in each]
    noticed = [one for _, each in done for one in each]
    failed = [check for check in checks if not check["passed"]]
    content |= {"compared": len(checks), "failed": failed, "plantedErrorsNoticed": sum(noticed), "passed": bool(noticed) and not failed and all(noticed)}
    content["worst"] = {dtype: max((c["relL2"] for c in checks if c["name"].endswith(dtype) and "relL2" in c), default=None) for dtype in ("float32", "bfloat16")}


def full_size(run, content):
    """The base model at a size that keeps every multiprocessor busy for many tiles: every tile of both families the direction of float32.
    Whether tiles give the same bits is recorded alone: warpgroup products may sum in another order where they are wider."""
    with tempfile.TemporaryDirectory() as folder:
        def outputs(variant):
            name, dtype, environment = variant
            out = Path(folder) / name
            list(model_runs(run, "base.embed", {"images 64": 0}, dtype, options=("--out", out), **environment))  # launched, recorded, replayed
            return floats_of(out)

        tiles = [(f"tile {tile}", "bfloat16", {"MOME_GEMM_TILE": str(tile)}) for tile in range(FAMILIES[run.family])]
        variants = [("chosen", "bfloat16", {}), ("plain", "float32", {}), ("older", "bfloat16", {"MOME_GEMM_FAMILY": "sm80"}), *tiles]
        chosen, plain, older, *by_tile = side_by_side(outputs, variants)
    content["sameBits"] = {name: chosen.tobytes() == each.tobytes() for (name, _, _), each in zip(tiles, by_tile)}
    # Embeddings have length 1. The largest of float32 is there to show that it is not nothing that is compared.
    content["largest"] = max(map(abs, plain))
    width = len(plain) // 64
    cosines = {name: [product(each[i:i + width], plain[i:i + width]) for i in range(0, len(plain), width)] for name, each in (("as chosen", chosen), ("older family", older), *((name, each) for (name, _, _), each in zip(tiles, by_tile)))}
    content["leastCosines"] = {name: min(each) for name, each in cosines.items()}
    same = all(cosine >= COSINE_BOUND for each in cosines.values() for cosine in each)
    content["passed"] = same and content["largest"] > 0


# ---- sanitizers

SANITIZED = {
    "memcheck": [("as chosen", {}), ("sm80, few multiprocessors", {"MOME_GEMM_FAMILY": "sm80", "MOME_MULTIPROCESSORS": "4"})]
    + [(f"sm80 tile {tile}, one multiprocessor", {"MOME_GEMM_FAMILY": "sm80", "MOME_GEMM_TILE": str(tile), "MOME_MULTIPROCESSORS": "1"}) for tile in range(3)]
    + [("sm90 tile 0, one multiprocessor", {"MOME_GEMM_FAMILY": "sm90", "MOME_GEMM_TILE": "0", "MOME_MULTIPROCESSORS": "1"})],
    "synccheck": [("few multiprocessors", {"MOME_MULTIPROCESSORS": "4"})],
    "racecheck": [("few multiprocessors", {"MOME_MULTIPROCESSORS": "4"})],
}


def sanitized(done):
    """What a sanitizer found: passed only where it ran to its end, the kernels were compared with something, and it says that it found
    nothing."""
    said = done.stdout + done.stderr
    entry = {"compared": compared(said), "passed": done.returncode == 0 and compared(said) > 0 and bool(re.search(r"SUMMARY: 0 (errors|hazards)", said))}
    if done.returncode == 127 or (compared(said) == 0 and re.search(r"not supported", said, re.IGNORECASE)):
        return {"skipped": said[-500:]}  # no such tool, or it refuses the device
    return entry if entry["passed"] else entry | {"returncode": done.returncode, "output": ends(done, 800)}


def sanitizer(run, content, tools, decides):
    """Runs small cases of every kernel under each tool. Memcheck decides only for kernels without warpgroup products
    (MOME_GEMM_FAMILY=sm80). With them it may report false errors, so its output is only recorded. The output of racecheck and synccheck
    is only recorded too: they do not know every way in which a warpgroup waits for a copy."""
    runs = [(tool, name, environment) for tool in tools for name, environment in SANITIZED[tool]]

    def one(each):
        tool, _, environment = each
        return sanitized(run.command("compute-sanitizer", "--tool", tool, "--error-exitcode", 9, run.build / "mome_kernels", "--mode", "cuda-subset", timeout=100, **environment))

    for (tool, name, _), entry in zip(runs, side_by_side(one, runs)):
        content[f"{tool}, {name}"] = entry
    ran = [content[f"{tool}, {name}"] for tool, name, environment in runs if environment.get("MOME_GEMM_FAMILY", run.family) == "sm80" and "passed" in content[f"{tool}, {name}"]]
    if decides and ran:
        content["passed"] = all(entry["passed"] for entry in ran)


# ---- the addon

def addon(run, content):
    """The package itself, where a Node binary, dist and the addon were brought along; its own tests of CUDA, where vitest was too."""
    checks = content["checks"] = {}
    for case in ("tiny_absolute", "tiny_relative"):
        for dtype in ("float32", "bfloat16"):
            done = run.command(run.options.node, ROOT / "dist" / "cli.mjs", "verify", GOLDEN / case, "--device", "cuda", "--dtype", dtype, "--json", timeout=60)
            checks[f"verify {case} {dtype}"] = done.returncode == 0 or ends(done, 500)
    vitest = ROOT / "node_modules" / "vitest" / "vitest.mjs"
    if vitest.exists():
        done = run.command(run.options.node, vitest, "run", "ts/test/runtime/cuda", timeout=120)
        checks["ts/test/runtime/cuda"] = done.returncode == 0 or ends(done, 1500)
    else:
        content["skipped"] = "ts/test/runtime/cuda: node_modules/vitest was not brought along"
    content["passed"] = all(value is True for value in checks.values())
