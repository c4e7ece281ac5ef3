"""What the stages of run.py share: commands with time limits, the result file that grows, clocks, and the manifests that mome_run reads.

The standard library alone: the machine may have no NumPy, and what needs PyTorch runs in processes of its own.
"""
import array
import collections
import contextlib
import datetime
import json
import math
import os
import pickle
import signal
import statistics
import struct
import subprocess
import tempfile
import time
import typing
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "native" / "test" / "programs"
CLOCKS = "clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_throttle_reasons.active"


class Run:
    def __init__(self, options, judge):
        """`judge` takes the result and returns the bounds with their verdicts."""
        self.options, self.judge = options, judge
        self.started = time.monotonic()
        # bench/cuda-report.mjs finds these files by "table"; it skips rehearsals on the emulation.
        self.result = {"table": "cuda", "emulation": options.emulation, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                       "verdicts": {}, "stages": {}}
        self.environment = dict(os.environ, MOME_REQUIRE="cuda")
        self.environment["PATH"] += os.pathsep + "/usr/local/cuda/bin"
        self.use_build(options.build)
        self.family = "sm90"  # of bfloat16 products; assumed until the smoke gate finds that it fails
        self.building = None  # a build beside other stages (build.py)
        self.children = []    # processes with sessions of their own, ended with the run

    def use_build(self, folder):
        self.build = Path(folder).resolve()
        self.environment["MOME_CUDA_LIBRARY"] = str(self.build / ("emulation/mome_cuda_emulation.so" if self.options.emulation else "Release/mome_cuda.so"))

    def left(self):
        return self.options.minutes * 60 - (time.monotonic() - self.started)

    def save(self):
        verdicts = self.result["verdicts"]
        self.result["bounds"] = self.judge(self.result)
        self.result["passed"] = all(verdicts.get(name, False) for name in self.options.required) and all(verdicts.values())
        out = Path(self.options.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: if this process is ended, a whole file stays.
        part = out.with_name(out.name + ".part")
        part.write_text(json.dumps(plain(self.result), indent=1, allow_nan=False) + "\n")
        part.replace(out)

    def command(self, *words, timeout=60, **environment):
        """Runs a program. If it hangs, it is ended with all processes it started; the exit code is 124 and its output so far is kept. A
        missing program gives exit code 127."""
        timeout = min(timeout, self.left())
        if timeout < 1:
            return subprocess.CompletedProcess(words, 124, "", "no time left")
        try:
            process = subprocess.Popen([str(word) for word in words], cwd=ROOT, env=self.environment | environment, text=True, errors="replace",
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except FileNotFoundError as missing:
            return subprocess.CompletedProcess(words, 127, "", str(missing))
        try:
            said, complained = process.communicate(timeout=timeout)
            return subprocess.CompletedProcess(words, process.returncode, said, complained)
        except subprocess.TimeoutExpired:
            end_group(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                said, complained = process.communicate(timeout=2)
                return subprocess.CompletedProcess(words, 124, said, f"{complained}\nno end after {timeout:.0f} s")
            return subprocess.CompletedProcess(words, 124, "", f"no end after {timeout:.0f} s")
        finally:
            end_group(process)

    def stage(self, name, body, least_seconds=10):
        """Runs body(content), which fills the stage's content step by step. An exception ends the stage but keeps its content, and the
        next stage begins."""
        content = self.result["stages"].setdefault(name, {})
        if self.left() < least_seconds:
            content["skipped"] = "no time left"
            return self.save()
        started = time.monotonic()
        try:
            body(content)
        except Exception as problem:  # noqa: BLE001: one stage must not end the others
            content["error"] = f"{type(problem).__name__}: {problem}"[:1500]
        content["tookSeconds"] = round(time.monotonic() - started, 1)
        if "passed" in content or "error" in content:
            self.result["verdicts"][name] = "error" not in content and content["passed"]
        print(f"{name}: {json.dumps(content)[:300]}", flush=True)
        self.save()

    def attempt(self, content, name, measure):
        """One figure of a stage, or why there is none: the others stay. Saved at once."""
        try:
            content[name] = measure()
        except Exception as problem:  # noqa: BLE001
            content[name] = {"error": f"{type(problem).__name__}: {problem}"[:1200]}
        self.save()
        return content[name]

    def end(self):
        for process in self.children:
            if process.poll() is None:
                end_group(process)

    @contextlib.contextmanager
    def clocks(self, content):
        """Records the card's clocks, and the reasons for slower ones, once a second while the body runs: an idle card has other clocks
        than a busy one."""
        try:
            watch = subprocess.Popen(["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader,nounits", "-l", "1"], text=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, env=self.environment)
        except FileNotFoundError as missing:
            content["clocks"] = {"error": str(missing)}
            yield
            return
        try:
            yield
        finally:
            watch.terminate()
            content["clocks"] = clocks_of(watch.communicate()[0])


def end_group(process):
    """Ends a process that has a session of its own, and the processes it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def plain(value):
    """`value` as JSON can hold it: numbers that are none as words."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def clocks_of(said):
    """Lowest, middle and highest of each clock over the samples, and the samples under every reason that held clocks back."""
    samples = [line.split(", ") for line in said.splitlines() if line.count(", ") == CLOCKS.count(",")]
    content = {"samples": len(samples)}
    if not samples:
        return content | {"output": said[:300]}
    for name, values in zip(CLOCKS.split(","), zip(*samples)):
        if name.endswith("active"):
            content["throttleReasons"] = dict(collections.Counter(values))
            continue
        with contextlib.suppress(ValueError):
            content[name] = [f([float(value) for value in values]) for f in (min, statistics.median, max)]
    return content


def ends(done, length=2500):
    """The beginning and the end of a program's output, which show its first and its last failure."""
    text = done.stdout + done.stderr
    return text if len(text) <= 2 * length else f"{text[:length]}\n...\n{text[-length:]}"


def whole_lines(said):
    """The lines of JSON that a program printed; the last may have been cut off."""
    return [json.loads(line) for line in said.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]


def summary(seconds):
    return {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds), "runs": len(seconds)}


# ---- files

class Tensor(typing.NamedTuple):
    shape: typing.Sequence[int]
    values: array.array


def numbers(raw, kind):
    """Little-endian numbers of struct's `kind`. Floats of any width become floats of 32 bits."""
    values = struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw)
    return array.array("f" if kind in "efd" else kind, values)


def floats_of(path):
    return numbers(path.read_bytes(), "f")


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    kinds = {"F32": "f", "I32": "i", "I64": "q", "U8": "B", "F16": "e"}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = Tensor(entry["shape"], numbers(data[begin:end], kinds[entry["dtype"]]))
    return tensors


def strided(storage, offset, shape, strides, *_):
    places = [offset]
    for size, stride in zip(shape, strides):
        places = [place + i * stride for place in places for i in range(size)]
    return Tensor(shape, array.array(storage.typecode, [storage[place] for place in places]))


class TorchPickle(pickle.Unpickler):
    """What torch.save wrote, as arrays: a rehearsal needs no PyTorch."""
    KINDS = {"FloatStorage": "f", "HalfStorage": "e", "DoubleStorage": "d", "LongStorage": "q"}

    def __init__(self, archive):
        self.archive = archive
        self.folder = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        super().__init__(archive.open(self.folder + "data.pkl"))

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return strided
        if module == "torch" and name in self.KINDS:
            return self.KINDS[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"expected a checkpoint of tensors, got {module}.{name}")

    def persistent_load(self, place):
        _, kind, key, _, _ = place
        return numbers(self.archive.read(f"{self.folder}data/{key}"), kind)


def read_checkpoint(path):
    """Name to 32-bit floats of every parameter, as the reference wrote them."""
    with zipfile.ZipFile(path) as archive:
        state = TorchPickle(archive).load()
    while any(isinstance(value, dict) for value in state.values()):  # below "state_dict" or "model"
        state = next(value for value in state.values() if isinstance(value, dict))
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if isinstance(tensor, Tensor) and tensor.values.typecode == "f"}


def write_manifest(folder, program, runs, weights=None):
    """The text and the blob that mome_run reads. Each of `runs` has dims and arrays, and may have `random` inputs (bytes), `repeat`, and
    be `between`."""
    blob, lines, offset = [], [], 0

    def put(values):
        nonlocal offset
        raw = values.tobytes()
        raw += bytes(-len(raw) % 16)
        blob.append(raw)
        offset += len(raw)
        return offset - len(raw)

    for i, run in enumerate(runs):
        if i > 0:
            lines.append("between" if run.get("between") else "next")
        lines += [f"dim {name} {value}" for name, value in run["dims"].items()]
        lines += [f"input {name} {'f32' if values.typecode == 'f' else 'i32'} {len(values)} {put(values)}" for name, values in run["arrays"].items()]
        lines += [f"input {name} u8 {count} random" for name, count in run.get("random", {}).items()]
        if "repeat" in run:
            lines.append(f"repeat {run['repeat']}")
    if weights is None:
        lines.append("random_weights")
    else:
        lines += [f"weight {name} {'x'.join(map(str, tensor.shape)) or '1'} {put(tensor.values)}" for name, tensor in weights.items()]
    (folder / "program").write_text(program)
    (folder / "blob").write_bytes(b"".join(blob) or b"\0")
    (folder / "manifest").write_text("\n".join([f"program {folder / 'program'}", f"blob {folder / 'blob'}"] + lines) + "\n")
    return folder / "manifest"


def int_arrays(inputs):
    return {name: array.array("i", values) for name, values in inputs.items()}


WARM_UP = 3


def model_runs(run, file, rounds, dtype="bfloat16", options=(), timeout=60, **environment):
    """Runs a stored program at the shapes of `rounds` (name to times, after the warm-up), all in one process. Yields mome_run's output
    for each shape that finished; if one did not finish, raises an error after the others."""
    stored = json.loads((PROGRAMS / f"{file}.json").read_text())
    runs = []
    for shape, times in rounds.items():
        size = stored["shapes"][shape]
        pixels = size["dims"]["pictures"] * stored["imageSize"] ** 2 * 3
        runs.append({"dims": size["dims"], "arrays": int_arrays(size["inputs"]), "random": {"bytes": pixels}, "repeat": times + WARM_UP})
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), stored["program"], runs)
        done = run.command(run.build / "mome_run", manifest, "--device", "cuda", "--dtype", dtype, *options, timeout=timeout, **environment)
    for shape, said in zip(rounds, whole_lines(done.stdout)):
        yield shape, said | {"seconds": said["seconds"][WARM_UP:]}
    if done.returncode != 0:
        raise RuntimeError(ends(done, 400))
