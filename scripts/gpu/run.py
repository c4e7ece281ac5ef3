"""Everything a GPU machine is needed for, in one command and without Node: builds, checks and measures the CUDA kernels.

    python3 scripts/gpu/run.py --out result.json [--minutes 9] [--build build-gpu] [--prebuilt build] [--node node] [--emulation]

Needs CMake, g++, nvcc, a GPU and its driver, and Python with PyTorch and NumPy. Most important first; the result is written after every
stage, so that a run that is cut off keeps what it had. Exit code 0 only if every check that ran passed.

With --emulation the kernels run on this processor (native/cuda/emulation): the checks of this script itself, no GPU and no figures.
"""
import argparse
import datetime
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "native" / "test" / "programs"
GOLDEN = ROOT / "ts" / "test" / "golden"
TINY_BOUND, COSINE_BOUND = 2e-5, 0.999  # as `mome verify`: float32 relative L2, bfloat16 cosine


class Run:
    def __init__(self, options):
        self.options = options
        self.started = time.monotonic()
        self.result = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "verdicts": {}, "stages": {}}
        self.environment = dict(os.environ, MOME_REQUIRE="cuda")
        self.use_build(options.build)
        self.environment["PATH"] += os.pathsep + "/usr/local/cuda/bin"

    def use_build(self, folder):
        self.build = Path(folder).resolve()
        self.environment["MOME_CUDA_LIBRARY"] = str(self.build / ("emulation/mome_cuda_emulation.so" if self.options.emulation else "Release/mome_cuda.so"))

    def left(self):
        return self.options.minutes * 60 - (time.monotonic() - self.started)

    def save(self):
        verdicts = self.result["verdicts"]
        self.result["bounds"] = bounds(self.result)
        self.result["passed"] = all(verdicts.get(name, False) for name in ("build", "kernels", "golden")) and all(verdicts.values())
        Path(self.options.out).parent.mkdir(parents=True, exist_ok=True)
        Path(self.options.out).write_text(json.dumps(self.result, indent=1) + "\n")

    def command(self, *words, timeout=60, **environment):
        """Runs a program. One that hangs gives exit code 124 and keeps what it had said; one that is not there gives 127."""
        try:
            return subprocess.run([str(word) for word in words], cwd=ROOT, env=self.environment | environment, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=max(5, min(timeout, self.left())))
        except subprocess.TimeoutExpired as late:
            said = [part.decode(errors="replace") if isinstance(part, bytes) else part or "" for part in (late.stdout, late.stderr)]
            return subprocess.CompletedProcess(words, 124, said[0], said[1] + f"\nno end after {late.timeout:.0f} s")
        except FileNotFoundError as missing:
            return subprocess.CompletedProcess(words, 127, "", str(missing))

    def stage(self, name, body, least_seconds=10):
        """Runs one stage; its failure is recorded and the next one begins."""
        if self.left() < least_seconds:
            self.result["stages"][name] = {"skipped": "no time left"}
            return self.save()
        started = time.monotonic()
        try:
            content = body()
        except Exception as problem:  # noqa: BLE001: one stage must not end the others
            content = {"error": f"{type(problem).__name__}: {problem}"}
        content["tookSeconds"] = round(time.monotonic() - started, 1)
        self.result["stages"][name] = content
        if "passed" in content or "error" in content:
            self.result["verdicts"][name] = content.get("passed", False)
        print(f"{name}: {json.dumps(content)[:300]}", flush=True)
        self.save()


# ---- stages

def machine(run):
    content = {"python": sys.version.split()[0]}
    for name, words in {"nvcc": ("nvcc", "--version"), "compiler": ("g++", "--version"), "commit": ("git", "rev-parse", "HEAD")}.items():
        lines = run.command(*words).stdout.strip().splitlines()
        content[name] = lines[-1 if name == "nvcc" else 0] if lines else None
    fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    values = run.command("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader").stdout.strip().splitlines()
    if values:
        content |= dict(zip(fields.split(","), values[0].split(", ")))
    try:
        import torch
        content["torch"] = torch.__version__
    except ImportError:
        content["torch"] = None
    return content


def build(run):
    # Another compiler may warn of other things: no reason to lose the run.
    configure = run.command("cmake", "-S", ROOT, "-B", run.build, "-DMOME_ADDON=OFF", "-DMOME_TESTS=ON", "-DMOME_BENCH=ON", "-DMOME_WERROR=OFF",
                            f"-DMOME_CUDA={'OFF' if run.options.emulation else 'ON'}")
    if configure.returncode != 0:
        return prebuilt(run, ends(configure))
    targets = ["mome_kernels", "mome_run", "mome_device_bench", "mome_cuda_emulation" if run.options.emulation else "mome_cuda"]
    made = run.command("cmake", "--build", run.build, "--parallel", os.cpu_count(), "--target", *targets, timeout=300)
    warnings = sorted({line.strip()[:200] for line in (made.stdout + made.stderr).splitlines() if "warning" in line.lower()})
    return {"passed": True, "warnings": warnings[:40]} if made.returncode == 0 else prebuilt(run, ends(made))


def prebuilt(run, output):
    """The build that was brought along, where this machine's own has failed."""
    if run.options.prebuilt is None:
        return {"passed": False, "output": output}
    run.use_build(run.options.prebuilt)
    works = run.command(run.build / "mome_kernels", "--mode", "support").returncode == 0
    return {"passed": works, "prebuilt": str(run.build), "output": output}


def ends(done, length=2500):
    """Beginning and end of what a program said: the first failure and the last."""
    text = done.stdout + done.stderr
    return text if len(text) <= 2 * length else f"{text[:length]}\n...\n{text[-length:]}"


def kernels(run):
    """Every case as the device takes it, then products with each tile of both families."""
    done = run.command(run.build / "mome_kernels", "--mode", "cuda", timeout=120, MOME_VERBOSE="1")
    content = {"passed": done.returncode == 0, "output": ends(done) if done.returncode != 0 else done.stdout.strip().splitlines()[-2:]}
    if done.returncode != 0:
        content["memcheck"] = ends(run.command("compute-sanitizer", run.build / "mome_kernels", "--mode", "cuda-subset", timeout=60))
    for family in ("sm90", "sm80"):
        for tile in range(4 if family == "sm90" else 3):
            each = run.command(run.build / "mome_kernels", "--mode", "cuda-gemm", timeout=30, MOME_GEMM_FAMILY=family, MOME_GEMM_TILE=str(tile))
            if each.returncode != 0:
                content["passed"] = False
                content[f"{family} tile {tile}"] = ends(each, 600)
    return content


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    types = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "U8": "u1", "F16": "<f2"}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write_manifest(folder, program, dims, arrays, random_inputs=(), weights=None, between=None):
    """The text and the blob that mome_run reads. `between`: dims and arrays of another run that goes before each."""
    blob, lines, offset = [], [], 0

    def put(array):
        nonlocal offset
        raw = np.ascontiguousarray(array).tobytes()
        raw += bytes(-len(raw) % 16)
        blob.append(raw)
        offset += len(raw)
        return offset - len(raw)

    (folder / "program").write_text(program)
    lines += [f"program {folder / 'program'}"]

    def put_run(dims, arrays):
        lines.extend(f"dim {name} {value}" for name, value in dims.items())
        for name, array in arrays.items():
            lines.append(f"input {name} {'f32' if array.dtype == np.float32 else 'i32'} {array.size} {put(array)}")

    put_run(dims, arrays)
    lines += [f"input {name} u8 {count} random" for name, count in random_inputs]
    if between is not None:
        lines.append("between")
        put_run(*between)
    if weights is None:
        lines.append("random_weights")
    else:
        lines += [f"weight {name} {'x'.join(map(str, array.shape)) or '1'} {put(array)}" for name, array in weights.items()]
    (folder / "blob").write_bytes(b"".join(blob) or b"\0")
    (folder / "manifest").write_text("\n".join([lines[0], f"blob {folder / 'blob'}"] + lines[1:]) + "\n")
    return folder / "manifest"


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


def golden(run):
    import torch
    checks, noticed = [], []
    for case in ("tiny_absolute", "tiny_relative"):
        stored = json.loads((PROGRAMS / f"{case}.json").read_text())
        state = torch.load(GOLDEN / case / "weights.pt", map_location="cpu")
        while any(isinstance(value, dict) for value in state.values()):  # below "state_dict" or "model"
            state = next(value for value in state.values() if isinstance(value, dict))
        weights = {name.removeprefix("module."): tensor.float().numpy() for name, tensor in state.items() if tensor.is_floating_point()}
        recorded = read_safetensors(GOLDEN / case / "outputs.safetensors")
        pixels = read_safetensors(GOLDEN / case / "inputs.safetensors")["image"].astype(np.float32)
        for name, part in stored["parts"].items():
            for dtype in ("float32", "bfloat16"):
                with tempfile.TemporaryDirectory() as folder:
                    def arrays(sizes):
                        return {key: np.array(values, np.int32) for key, values in sizes["inputs"].items()} | {"pixels": pixels}

                    # A run whose experts' rows end elsewhere, which shares the recording.
                    between = (part["between"]["dims"], arrays(part["between"])) if "between" in part else None
                    manifest = write_manifest(Path(folder), part["program"], part["dims"], arrays(part), weights=weights, between=between)
                    out = Path(folder) / "out"
                    # Three runs: launched, recorded, replayed.
                    done = run.command(run.build / "mome_run", manifest, "--device", "cuda", "--dtype", dtype, "--repeat", 3, "--out", out, timeout=30, MOME_TRACE="recordings")
                    ways = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("run: ")]
                    once = ways == ["launched,", "recorded,"] + ["replayed,"] * (4 if between else 1)
                    checks.append({"name": f"{case} {name} {dtype} is recorded once", "passed": once})
                    if done.returncode != 0:
                        checks.append({"name": f"{case} {name} {dtype}", "passed": False, "error": done.stderr[-500:]})
                        continue
                    values, outputs, offset = np.fromfile(out, np.float32), {}, 0
                    for output in json.loads(done.stdout)["outputs"]:
                        outputs[output["name"]] = values[offset:offset + output["count"]]
                        offset += output["count"]
                for output in part["outputs"]:
                    expected, actual = recorded[output["golden"]], outputs[output["name"]]
                    if "rows" in output:
                        rows = output["rows"]
                        actual = padded(actual.reshape(-1, stored["width"]), rows["begins"], rows["lengths"], rows["length"])
                    actual = actual.ravel()[:expected.size]  # rows behind the last sequence round the size up
                    checks.append({"name": f"{case} {output['golden']} {dtype}", **compare(actual, expected, dtype, False)})
                    noticed.append(not compare(actual, expected, dtype, True)["passed"])
    failed = [check for check in checks if not check["passed"]]
    return {"passed": bool(checks) and not failed and all(noticed), "compared": len(checks), "failed": failed, "plantedErrorsNoticed": sum(noticed),
            "worst": {dtype: max((c["relL2"] for c in checks if c["name"].endswith(dtype) and "relL2" in c), default=None) for dtype in ("float32", "bfloat16")}}


def summary(seconds):
    return {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds), "runs": len(seconds)}


def model_run(run, file, shape, dtype, repeat, profile=False, out=None, **environment):
    stored = json.loads((PROGRAMS / f"{file}.json").read_text())
    size = stored["shapes"][shape]
    arrays = {key: np.array(values, np.int32) for key, values in size["inputs"].items()}
    with tempfile.TemporaryDirectory() as folder:
        pixels = size["dims"]["pictures"] * stored["imageSize"] ** 2 * 3
        manifest = write_manifest(Path(folder), stored["program"], size["dims"], arrays, [("bytes", pixels)])
        words = [run.build / "mome_run", manifest, "--device", "cuda", "--dtype", dtype, "--repeat", repeat]
        done = run.command(*words, *(["--profile"] if profile else []), *(["--out", out] if out else []), **environment)
    if done.returncode != 0:
        raise RuntimeError(ends(done, 400))
    return json.loads(done.stdout)


def full_size(run):
    """The base model at a size that keeps every multiprocessor busy for many tiles: all tiles give the same bits, both types the same direction."""
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        def outputs(name, dtype, **environment):
            out = Path(folder) / name
            model_run(run, "base.embed", "images 64", dtype, 3, out=out, **environment)
            return np.fromfile(out, np.float32)

        chosen = outputs("chosen", "bfloat16")
        plain = outputs("plain", "float32").reshape(64, -1)
        for tile in range(4):
            values[f"tile {tile} gives the same bits"] = bool(np.array_equal(chosen, outputs(f"tile{tile}", "bfloat16", MOME_GEMM_TILE=str(tile))))
        older = outputs("older", "bfloat16", MOME_GEMM_FAMILY="sm80").reshape(64, -1)
    cosines = {name: float((each.reshape(64, -1) * plain).sum(1).min()) for name, each in (("as chosen", chosen), ("older family", older))}
    # Embeddings have length 1. The largest of float32 is there to show that it is not nothing that is compared.
    return {"passed": all(values.values()) and min(cosines.values()) >= COSINE_BOUND and bool(np.abs(plain).max() > 0), "checks": values, "leastCosines": cosines}


def guarded(entry, name, measure):
    """A peer's figure, or why there is none: the others' stay."""
    try:
        entry[name] = summary(measure())
    except Exception as problem:  # noqa: BLE001
        entry[name] = {"error": f"{type(problem).__name__}: {problem}"[:500]}


def model(run):
    """The encoder against PyTorch, alternating, from bytes to embeddings. Saved as it grows."""
    figures = run.result["stages"].setdefault("model", {})
    rounds = {64: 20, 1: 60, 8: 40, 256: 12}
    for batch in rounds:
        entry = figures[f"images {batch}"] = {}
        ours = model_run(run, "base.embed", f"images {batch}", "bfloat16", rounds[batch] + 3, profile=True)
        entry["mome"] = {**summary(ours["seconds"][3:]), "nanosecondsByOp": ours["nanoseconds"]}
        run.save()
        guarded(entry, "torch eager", lambda: peer_seconds(run, "eager", batch, rounds[batch]))
        guarded(entry, "mome again", lambda: model_run(run, "base.embed", f"images {batch}", "bfloat16", rounds[batch] + 3)["seconds"][3:])
        run.save()
    return figures


def compiled(run):
    """torch.compile, in processes of its own: tuning takes its time, and may fail."""
    figures = run.result["stages"].get("model", {})
    for batch in (64, 1, 256):
        entry = figures.get(f"images {batch}")
        if entry is None or run.left() < 60:
            continue
        guarded(entry, "torch.compile", lambda: peer_seconds(run, "compile", batch, 20, timeout=150))
        guarded(entry, "mome beside compile", lambda: model_run(run, "base.embed", f"images {batch}", "bfloat16", 23)["seconds"][3:])
        run.save()
    return {"batches": [batch for batch in (64, 1, 256) if "torch.compile" in figures.get(f"images {batch}", {})]}


def peer_seconds(run, kind, batch, rounds, timeout=90):
    done = run.command(sys.executable, Path(__file__).parent / "torch_peer.py", kind, batch, rounds, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(ends(done, 400))
    return json.loads(done.stdout.strip().splitlines()[-1])


def mixed(run):
    """One call for all against the three calls apart."""
    together = summary(model_run(run, "base.mixed", "images 32, texts 64, pairs 32", "bfloat16", 23)["seconds"][3:])
    apart = [summary(model_run(run, file, shape, "bfloat16", 23)["seconds"][3:])
             for file, shape in (("base.embed", "images 32"), ("base.embed", "texts 64"), ("base.match", "pairs 32"))]
    return {"together": together, "apart": apart, "ratio": sum(part["median"] for part in apart) / together["median"]}


def ops(run):
    from torch_peer import op_seconds, ops as torch_ops
    done = run.command(run.build / "mome_device_bench", "--rounds", 10)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-500:])
    peers = {name: summary(op_seconds(call)) for name, call in torch_ops().items()}
    content = {"torch": peers, "mome": {}}
    for kernel in json.loads(done.stdout)["kernels"]:
        entry = summary(kernel["seconds"])
        entry["teraflops"] = kernel["flops"] / entry["median"] / 1e12
        if kernel["name"] in peers:
            entry["timesTorch"] = peers[kernel["name"]]["median"] / entry["median"]
        content["mome"][kernel["name"]] = entry
    return content


def ceilings(run):
    from torch_peer import ceilings as measure
    values = measure()
    return {"teraflops": summary([v / 1e12 for v in values["matmulFlops"]]), "terabytesPerSecond": summary([v / 1e12 for v in values["copyBytes"]])}


def addon(run):
    """The package itself, where a Node binary, dist and the addon were brought along."""
    checks = {}
    for case in ("tiny_absolute", "tiny_relative"):
        for dtype in ("float32", "bfloat16"):
            done = run.command(run.options.node, ROOT / "dist" / "cli.mjs", "verify", GOLDEN / case, "--device", "cuda", "--dtype", dtype, "--json", timeout=60)
            checks[f"{case} {dtype}"] = done.returncode == 0 or (done.stdout + done.stderr)[-500:]
    return {"passed": all(value is True for value in checks.values()), "checks": checks}


def sanitizer(run):
    """memcheck decides; racecheck is recorded: it does not know every way in which a warpgroup waits for a copy. Refused devices are skipped."""
    content = {}
    for tool in ("memcheck", "racecheck"):
        done = run.command("compute-sanitizer", "--tool", tool, run.build / "mome_kernels", "--mode", "cuda-subset", timeout=90)
        content[tool] = ends(done, 400)
    said = content["memcheck"]
    if "ERROR SUMMARY" in said:
        content["passed"] = "ERROR SUMMARY: 0 errors" in said
    return content


def bounds(result):
    """What the figures are held to: speed beside PyTorch on the same device in the same run. Does not decide the exit code."""
    found = []

    def hold(name, value, bound):
        if value is not None:
            found.append({"name": name, "value": value, "bound": bound, "met": value >= bound})

    stages = result["stages"]
    images = stages.get("model", {})
    for shape, entry in images.items():
        if not isinstance(entry, dict) or "mome" not in entry:
            continue
        # The best of the measurements around the peers': a neighbour may have slowed one.
        ours = min(entry[name]["median"] for name in ("mome", "mome again", "mome beside compile") if "median" in entry.get(name, {}))
        eager, compiled_ = (entry.get(name, {}).get("median") for name in ("torch eager", "torch.compile"))
        if shape == "images 1":
            hold("batch 1, times faster than torch eager", eager and eager / ours, 3)
        elif shape in ("images 64", "images 256"):
            batch = int(shape.split()[1])
            hold(f"{shape}, times torch.compile", compiled_ and compiled_ / ours, 1)
            hold(f"{shape}, per second", batch / ours, 8000)
    if "ratio" in stages.get("mixed", {}):
        hold("mixed batch, times the three apart", stages["mixed"]["ratio"], 1)
    ours, peers = (stages.get("ops", {}).get(side, {}) for side in ("mome", "torch"))
    if ours and peers:
        hold("qkv, share of cuBLAS", peers["matmul 768 x 2304"]["median"] / ours["qkv"]["median"], 0.7)
        hold("experts, share of dense", ours["expert_ffn"]["median"] / ours["expert_ffn, 3 experts"]["median"], 0.9)
        hold("attention, times SDPA with the bias as mask", peers["attention"]["median"] / ours["attention"]["median"], 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--build", default=str(ROOT / "build-gpu"))
    parser.add_argument("--prebuilt", help="a build folder to use where building fails here")
    parser.add_argument("--emulation", action="store_true")
    parser.add_argument("--node", help="a Node binary: runs `mome verify` through the addon too")
    options = parser.parse_args()
    run = Run(options)
    sys.path.insert(0, str(Path(__file__).parent))
    run.stage("machine", lambda: machine(run))
    run.stage("build", lambda: build(run))
    run.stage("kernels", lambda: kernels(run))
    run.stage("golden", lambda: golden(run))
    if not options.emulation:
        run.stage("ceilings", lambda: ceilings(run))
        run.stage("full_size", lambda: full_size(run), 30)
        run.stage("ops", lambda: ops(run))
        run.stage("model", lambda: model(run), 60)
        run.stage("mixed", lambda: mixed(run), 20)
        run.stage("compiled", lambda: compiled(run), 90)
        run.stage("sanitizer", lambda: sanitizer(run), 30)
    if options.node:
        run.stage("addon", lambda: addon(run), 20)
    run.save()
    print(json.dumps({"passed": run.result["passed"], "verdicts": run.result["verdicts"], "bounds": run.result["bounds"]}))
    return 0 if run.result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
