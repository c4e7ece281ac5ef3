"""The stages of run.py that pass or fail: building, kernels against `ref`, the reference cases, the base model with every tile, sanitizers, the addon.

None of them measures anything, so programs that check run side by side.
"""
import concurrent.futures
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from harness import PROGRAMS, ROOT, ends, int_arrays, model_runs, read_checkpoint, read_safetensors, write_manifest

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


# ---- building

def assembler_problems(output):
    """What scripts/ptxas.mjs stops at: more than 8 bytes of spill stores anywhere in a kernel, products of a warpgroup that wait for one another (said as
    information), registers that cannot be handed over."""
    found = []
    for line in output.splitlines():
        spilled = re.search(r"spilled to local memory.* (\d+) bytes spill stores", line)
        if int(spilled[1]) > 8 if spilled else re.search(r"ptxas.*(wgmma|serializ|setmaxnreg)", line, re.IGNORECASE):
            found.append(line.strip()[:400])
    return sorted(set(found))


def build(run, content):
    # Another compiler may warn of other things: no reason to lose the run.
    configure = run.command("cmake", "-S", ROOT, "-B", run.build, "-DMOME_ADDON=OFF", "-DMOME_TESTS=ON", "-DMOME_BENCH=ON", "-DMOME_WERROR=OFF",
                            f"-DMOME_CUDA={'OFF' if run.options.emulation else 'ON'}")
    if configure.returncode != 0:
        return prebuilt(run, content, ends(configure))
    targets = ["mome_kernels", "mome_run", "mome_device_bench", "mome_cuda_emulation" if run.options.emulation else "mome_cuda"]
    made = run.command("cmake", "--build", run.build, "--parallel", os.cpu_count(), "--target", *targets, timeout=300)
    said = made.stdout + made.stderr
    content["warnings"] = sorted({line.strip()[:200] for line in said.splitlines() if "warning" in line.lower()})[:40]
    content["assembler"] = assembler_problems(said)
    run.result["verdicts"]["assembler"] = not content["assembler"]
    if content["assembler"]:  # the next build shall say it again
        shutil.rmtree(run.build / "CMakeFiles" / "mome_cuda.dir", ignore_errors=True)
    if made.returncode != 0:
        return prebuilt(run, content, ends(made))
    content["passed"] = True


def prebuilt(run, content, output):
    """The build that was brought along, where this machine's own has failed."""
    content |= {"passed": False, "output": output}
    if run.options.prebuilt is not None:
        run.use_build(run.options.prebuilt)
        content |= {"passed": run.command(run.build / "mome_kernels", "--mode", "support").returncode == 0, "prebuilt": str(run.build)}


# ---- kernels

def kernel_runs(emulation):
    """Name to mode and environment. Fewer multiprocessors than tiles: what blocks that stay for several do."""
    if emulation:  # the native tests run it in full
        return {"as chosen": ("cuda-subset", {}), "sm90 tile 0, one multiprocessor": ("cuda-gemm", {"MOME_GEMM_TILE": "0", "MOME_MULTIPROCESSORS": "1"})}
    runs = {"as chosen": ("cuda", {"MOME_VERBOSE": "1"}), "few multiprocessors": ("cuda", {"MOME_MULTIPROCESSORS": "4"})}
    for family, tiles in (("sm90", 4), ("sm80", 3)):
        for tile in range(tiles):
            # Of the largest tiles a case has few: one block takes them all.
            for few, multiprocessors in (("", {}), (", four multiprocessors", {"MOME_MULTIPROCESSORS": "4"}), (", one multiprocessor", {"MOME_MULTIPROCESSORS": "1"})):
                runs[f"{family} tile {tile}{few}"] = ("cuda-gemm", {"MOME_GEMM_FAMILY": family, "MOME_GEMM_TILE": str(tile)} | multiprocessors)
    return runs


def compared(said):
    found = re.search(r"^(\d+) comparisons with ref", said, re.MULTILINE)
    return int(found[1]) if found else 0


def kernels(run, content):
    runs = kernel_runs(run.options.emulation)

    def one(mode_and_environment):
        mode, environment = mode_and_environment
        return run.command(run.build / "mome_kernels", "--mode", mode, timeout=120, **environment)

    done = dict(zip(runs, side_by_side(one, runs.values())))
    content["compared"] = {name: compared(each.stdout) for name, each in done.items()}
    content["failed"] = {name: ends(each, 1500) for name, each in done.items() if each.returncode != 0}
    content["passed"] = not content["failed"] and all(content["compared"].values())
    if "as chosen" in content["failed"] and not run.options.emulation:
        content["memcheck"] = ends(run.command("compute-sanitizer", run.build / "mome_kernels", "--mode", "cuda-subset", timeout=60))


# ---- reference cases

def padded(rows, begins, lengths, length):
    out = np.zeros((len(begins), length, rows.shape[-1]), np.float32)
    for i, (begin, count) in enumerate(zip(begins, lengths)):
        out[i, :count] = rows[begin:begin + count]
    return out


def compare(actual, expected, dtype, bend):
    """Verdict of one output; with `bend` one of the expected numbers is changed first."""
    actual, expected = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel().copy()
    if bend:
        expected[np.argmax(np.abs(expected))] *= -1
    relative = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
    cosine = float(actual @ expected / np.linalg.norm(actual) / np.linalg.norm(expected))
    passed = relative <= TINY_BOUND if dtype == "float32" else cosine >= COSINE_BOUND
    return {"relL2": relative, "cosine": cosine, "passed": bool(passed and np.isfinite(actual).all())}


class Case:
    """A reference case: its programs, weights, pixels and recorded outputs."""

    def __init__(self, name):
        self.name = name
        self.stored = json.loads((PROGRAMS / f"{name}.json").read_text())
        self.weights = read_checkpoint(GOLDEN / name / "weights.pt")
        self.recorded = read_safetensors(GOLDEN / name / "outputs.safetensors")
        self.pixels = read_safetensors(GOLDEN / name / "inputs.safetensors")["image"].astype(np.float32)

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
        values, outputs, offset = np.fromfile(out, np.float32), {}, 0
    for output in json.loads(done.stdout)["outputs"]:
        outputs[output["name"]] = values[offset:offset + output["count"]]
        offset += output["count"]
    for output in part["outputs"]:
        expected, actual = case.recorded[output["golden"]], outputs[output["name"]]
        if "rows" in output:
            rows = output["rows"]
            actual = padded(actual.reshape(-1, case.stored["width"]), rows["begins"], rows["lengths"], rows["length"])
        actual = actual.ravel()[:expected.size]  # rows behind the last sequence round the size up
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
    """The base model at a size that keeps every multiprocessor busy for many tiles: all tiles give the same bits, both types the same direction."""
    with tempfile.TemporaryDirectory() as folder:
        def outputs(variant):
            name, dtype, environment = variant
            out = Path(folder) / name
            list(model_runs(run, "base.embed", {"images 64": 0}, dtype, options=("--out", out), **environment))  # launched, recorded, replayed
            return np.fromfile(out, np.float32)

        tiles = [(f"tile {tile}", "bfloat16", {"MOME_GEMM_TILE": str(tile)}) for tile in range(4)]
        variants = [("chosen", "bfloat16", {}), ("plain", "float32", {}), ("older", "bfloat16", {"MOME_GEMM_FAMILY": "sm80"}), *tiles]
        chosen, plain, older, *by_tile = side_by_side(outputs, variants)
    content["checks"] = {f"{name} gives the same bits": bool(np.array_equal(chosen, each)) for (name, _, _), each in zip(tiles, by_tile)}
    plain = plain.reshape(64, -1)
    content["leastCosines"] = {name: float((each.reshape(64, -1) * plain).sum(1).min()) for name, each in (("as chosen", chosen), ("older family", older))}
    # Embeddings have length 1. The largest of float32 is there to show that it is not nothing that is compared.
    content["passed"] = all(content["checks"].values()) and min(content["leastCosines"].values()) >= COSINE_BOUND and bool(np.abs(plain).max() > 0)


# ---- sanitizers

SANITIZED = {
    "memcheck": [("as chosen", {}), ("few multiprocessors", {"MOME_MULTIPROCESSORS": "4"})]
    + [(f"tile {tile}, one multiprocessor", {"MOME_GEMM_TILE": str(tile), "MOME_MULTIPROCESSORS": "1"}) for tile in range(3)],
    "synccheck": [("few multiprocessors", {"MOME_MULTIPROCESSORS": "4"})],
    "racecheck": [("few multiprocessors", {"MOME_MULTIPROCESSORS": "4"})],
}


def sanitized(done):
    """What a sanitizer found: passed only where it ran to its end, the kernels were compared with something, and it says that it found nothing."""
    said = done.stdout + done.stderr
    entry = {"compared": compared(said), "passed": done.returncode == 0 and compared(said) > 0 and bool(re.search(r"SUMMARY: 0 (errors|hazards)", said))}
    if done.returncode == 127 or (compared(said) == 0 and re.search(r"not supported", said, re.IGNORECASE)):
        return {"skipped": said[-500:]}  # no such tool, or it refuses the device
    return entry if entry["passed"] else entry | {"returncode": done.returncode, "output": ends(done, 800)}


def sanitizer(run, content, tools, decides):
    """Small cases of every kernel under each tool. racecheck and synccheck are recorded alone: they do not know every way in which a warpgroup waits
    for a copy."""
    runs = [(tool, name, environment) for tool in tools for name, environment in SANITIZED[tool]]

    def one(each):
        tool, _, environment = each
        return sanitized(run.command("compute-sanitizer", "--tool", tool, "--error-exitcode", 9, run.build / "mome_kernels", "--mode", "cuda-subset", timeout=100, **environment))

    for (tool, name, _), entry in zip(runs, side_by_side(one, runs)):
        content[f"{tool}, {name}"] = entry
    ran = [entry for entry in content.values() if "passed" in entry]
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
        done = run.command(run.options.node, vitest, "run", "ts/test/runtime/cuda.test.ts", timeout=120)
        checks["cuda.test.ts"] = done.returncode == 0 or ends(done, 1500)
    else:
        content["skipped"] = "cuda.test.ts: node_modules/vitest was not brought along"
    content["passed"] = all(value is True for value in checks.values())
