"""The stages of run.py that measure, and the bounds their figures are held to. One program at a time has the device."""
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import end_group, ends, model_runs, summary, whole_lines

PEER = Path(__file__).parent / "torch_peer.py"
# Calls of each shape, the most important first. All texts have TEXT_TOKENS tokens, so that a peer pads nothing.
ROUNDS = {"images 64": 20, "images 1": 60, "images 8": 40, "images 256": 12, "texts 64": 40, "texts 1": 60, "pairs 32": 20}
TEXT_TOKENS = 12
OVERLAPPED = ("images 64", "images 256")  # of which two calls under way are measured too
PEERS = ("images 64", "images 1")  # the shapes that peers are measured at, each in its best mode


def count_of(shape):
    return int(shape.split()[1])


def peer_lines(run, *words, timeout):
    """What torch_peer prints, line by line, as long as it gets."""
    done = run.command(sys.executable, PEER, *words, timeout=timeout)
    yield from whole_lines(done.stdout)
    if done.returncode != 0:
        raise RuntimeError(ends(done, 400))


def peer(run, *words, timeout=60):
    return next(iter(peer_lines(run, *words, timeout=timeout)))


def figure(said, shape):
    """Of one measured shape: seconds of a call alone and, where they were measured, of a call where two are under way."""
    entry = summary(said["seconds"])
    if "overlapped" in said:
        entry["overlappedPerSecond"] = count_of(shape) / min(said["overlapped"])
    return entry | {name: said[name] for name in ("overlappedError", "mode") if name in said}


# ---- torch.compile's tuning, begun while this machine compiles

class WarmUp:
    """Fills torch.compile's cache on disk while the kernels are built. The device is idle then, so tuning is undisturbed and disturbs no
    measurement. It ends before anything else uses the device."""

    def __init__(self, run):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        run.environment |= {"TORCHINDUCTOR_CACHE_DIR": self.folder.name, "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}
        words = ["nice", "-n", "19", sys.executable, str(PEER), "compile", *(f"{shape}:1" for shape in PEERS)]
        self.said = Path(self.folder.name) / "said"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(words, env=run.environment, stdout=said, stderr=subprocess.DEVNULL, start_new_session=True)
        run.children.append(self.process)

    def stop(self):
        """Ends it with all its workers. Returns the shapes that were tuned whole."""
        end_group(self.process)
        self.process.wait()
        return [said["shape"] for said in whole_lines(self.said.read_text())]


# ---- stages

def ceilings(run, content):
    with run.clocks(content):
        values = peer(run, "ceilings")
    content["teraflops"] = summary([v / 1e12 for v in values["matmulFlops"]])
    content["terabytesPerSecond"] = summary([v / 1e12 for v in values["copyBytes"]])


def ops(run, content):
    with run.clocks(content):
        content["torch"] = {}
        run.attempt(content, "torch", lambda: {name: summary(seconds) for name, seconds in peer(run, "ops").items()})
        done = run.command(run.build / "mome_device_bench", "--rounds", 10)
    ours = content["mome"] = {}
    for kernel in whole_lines(done.stdout)[1:]:
        entry = ours[kernel["name"]] = summary(kernel["seconds"])
        entry["teraflops"] = kernel["flops"] / entry["median"] / 1e12
        if kernel["name"] in content["torch"]:
            entry["timesTorch"] = content["torch"][kernel["name"]]["median"] / entry["median"]
    if done.returncode != 0:
        raise RuntimeError(ends(done, 500))


def ours(run, content, name, shapes, options=()):
    """The library's encoder at several shapes, in one process for each program; a shape that fails takes no other's figures."""
    for file in ("base.embed", "base.match"):
        rounds = {shape: ROUNDS[shape] for shape in shapes if shape.startswith("pairs") == (file == "base.match")}
        missing = list(rounds)
        try:
            for shape, said in model_runs(run, file, rounds, options=options) if rounds else ():
                missing.remove(shape)
                entry = content.setdefault(shape, {})[name] = figure(said, shape)
                if "nanoseconds" in said:
                    entry["nanosecondsByOp"] = said["nanoseconds"]
                run.save()
        except Exception as problem:  # noqa: BLE001
            without(run, content, name, missing, problem)


def without(run, content, name, shapes, problem):
    for shape in shapes:
        content.setdefault(shape, {})[name] = {"error": str(problem)[:1200]}
    run.save()


def torch_eager(run, content):
    missing = list(PEERS)
    try:
        for said in peer_lines(run, "eager", *(f"{shape}:{ROUNDS[shape]}" for shape in PEERS), timeout=75):
            missing.remove(said["shape"])
            content.setdefault(said["shape"], {})["torch eager"] = figure(said, said["shape"])
            run.save()
    except Exception as problem:  # noqa: BLE001
        without(run, content, "torch eager", missing, problem)


def model(run, content):
    """The encoder against PyTorch, alternating, from ordinary memory to ordinary memory. Saved as it grows."""
    with run.clocks(content):
        ours(run, content, "mome", ROUNDS, ("--profile",))
        torch_eager(run, content)
        ours(run, content, "mome again", ROUNDS)
        ours(run, content, "mome overlapped", OVERLAPPED, ("--overlap",))
    content["passed"] = all("median" in content.get(shape, {}).get("mome", {}) for shape in ROUNDS)


def compiled(run, content, reserve=20):
    """Measures torch.compile in each of its modes, each in a process of its own, since tuning takes long and may fail. The bounds compare
    with the fastest mode; the others are recorded."""
    figures = run.result["stages"].setdefault("model", {})

    def measure(shape):
        entry = figures.setdefault(shape, {})
        modes = content[shape] = {}
        for mode, longest in (("compile", 100), ("compile-default", 60)):
            if run.left() < 25 + reserve:
                modes[mode] = {"error": "no time left"}
                continue
            timeout = min(longest, run.left() - reserve)
            said = run.attempt(modes, mode, lambda: figure(peer(run, mode, f"{shape}:20", timeout=timeout), shape))
            if said.get("median", math.inf) < entry.get("torch.compile", {}).get("median", math.inf):
                entry["torch.compile"] = said
        if "torch.compile" in entry:
            ours(run, figures, "mome beside compile", [shape])
        else:
            entry["torch.compile"] = {"error": "; ".join(f"{mode}: {said['error']}" for mode, said in modes.items())}

    with run.clocks(content):
        for shape in PEERS:
            measure(shape)


def mixed(run, content):
    """One call for all against the three calls apart."""
    def median(file, *shapes):
        return [summary(said["seconds"]) for _, said in model_runs(run, file, dict.fromkeys(shapes, 20))]

    with run.clocks(content):
        [content["together"]] = median("base.mixed", "images 32, texts 64, pairs 32")
        content["apart"] = median("base.embed", "images 32", "texts 64") + median("base.match", "pairs 32")
    content["ratio"] = sum(part["median"] for part in content["apart"]) / content["together"]["median"]


# ---- bounds

def bounds(result):
    """The bounds of the figures: speed relative to PyTorch on the same device in the same run. They do not decide the exit code. A bound
    whose figure was not measured has no value and is not met."""
    found, stages = [], result["stages"]

    def hold(name, value, bound):
        found.append({"name": name, "value": value, "bound": bound, "met": value is not None and value >= bound})

    def median(entry):
        return entry.get("median") if entry else None

    def ratio(above, below):
        return above / below if above and below else None

    for shape in ROUNDS:
        entry = stages.get("model", {}).get(shape, {})
        # The best of the measurements around the peers': a neighbour may have slowed one.
        best = min(filter(None, (median(entry.get(name)) for name in ("mome", "mome again", "mome beside compile"))), default=None)
        if shape == "images 1":
            hold("batch 1, times faster than torch eager", ratio(median(entry.get("torch eager")), best), 3)
        if shape in PEERS:
            hold(f"{shape}, times torch.compile", ratio(median(entry.get("torch.compile")), best), 1.3)
        if shape in OVERLAPPED:
            hold(f"{shape}, per second", ratio(count_of(shape), best), 15000)
    hold("mixed batch, times the three apart", stages.get("mixed", {}).get("ratio"), 1)
    mome, torch = (stages.get("ops", {}).get(side, {}) for side in ("mome", "torch"))
    swept = stages.get("sweep", {}).get("best", {})
    for product in ("qkv", "proj", "fc1", "fc2"):
        hold(f"{product}, share of cuBLAS", swept.get(f"{product} {64 * 197}", {}).get("shareOfCublas"), 0.95)
    hold("experts, share of dense", ratio(median(mome.get("expert_ffn")), median(mome.get("expert_ffn, 3 experts"))), 0.9)
    hold("attention, times SDPA with the bias as mask", ratio(median(torch.get("attention")), median(mome.get("attention"))), 1)
    return found
