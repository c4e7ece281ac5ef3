"""The stages of run.py that provide the test programs and the CUDA library: prebuilt ones first, then those that this machine builds
meanwhile.

    python3 scripts/gpu/build.py <folder>    builds the prebuilt files, and copies the four that run.py needs to <folder>
"""
import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from harness import ROOT, end_group, ends

TARGETS = ["mome_kernels", "mome_run", "mome_device_bench"]
KEPT_BYTES = 15 << 20  # a file that travels back from a GPU machine may have 16 MiB
# The main kernels: the part of their mangled names that tells them apart. `proj_residual` and fc2 are one kernel.
MAIN_KERNELS = {
    "qkv": r"gemm_forward_bf16_sm90ILi128ELi192E.*QkvEpilogue", "fc1": r"gemm_forward_bf16_sm90ILi128ELi1\d\dE.*HiddenEpilogue",
    "fc2": r"gemm_forward_bf16_sm90ILi128ELi1\d\dE.*ResidualEpilogue", "linear": r"gemm_forward_bf16_sm90ILi128ELi192E.*LinearEpilogue",
    "patch_embed": r"gemm_forward_bf16_sm90ILi128ELi1\d\dE.*PatchEpilogue", "patch_rows": r"patch_rows_forward_cuda",
    "attention": r"attention_forward_bf16_sm80ILi64ELNS1_6AccessE0", "layer_norm": r"layer_norm_forward_cudaINS0_4bf16",
}


def assembler_problems(output):
    """What scripts/ptxas.mjs stops at: more than 8 bytes of spill stores anywhere in a kernel, products of a warpgroup that wait for one
    another (said as information), registers that cannot be handed over."""
    found = []
    for line in output.splitlines():
        spilled = re.search(r"spilled to local memory.* (\d+) bytes spill stores", line)
        if int(spilled[1]) > 8 if spilled else re.search(r"ptxas.*(wgmma|serializ|setmaxnreg)", line, re.IGNORECASE):
            found.append(line.strip()[:400])
    return sorted(set(found))


def configure_words(folder, cuda):
    # Another compiler may warn of other things: no reason to lose the run. What the assembler says of each kernel is kept.
    words = ["cmake", "-S", ROOT, "-B", folder, "-DMOME_ADDON=OFF", "-DMOME_TESTS=ON", "-DMOME_BENCH=ON", "-DMOME_WERROR=OFF", f"-DMOME_CUDA={'ON' if cuda else 'OFF'}"]
    return words + (["-DCMAKE_CUDA_FLAGS=-Xptxas=-v"] if cuda else [])


def build_words(folder, cuda):
    return ["cmake", "--build", folder, "--parallel", os.cpu_count(), "--target", *TARGETS, "mome_cuda" if cuda else "mome_cuda_emulation"]


class Building:
    """A build that goes on while other stages run. It ends with this object's `stop`, or with the run."""

    def __init__(self, run):
        self.run, self.folder, self.process = run, Path(run.options.build).resolve(), None
        self.log = Path(run.options.out).parent / "build.log"

    def begin(self):
        cuda = not self.run.options.emulation
        self.log.parent.mkdir(parents=True, exist_ok=True)
        script = " && ".join(" ".join(f"'{word}'" for word in map(str, part)) for part in (configure_words(self.folder, cuda), build_words(self.folder, cuda)))
        words = ["nice", "-n", "5", "sh", "-c", script]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, cwd=ROOT, env=self.run.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.run.children.append(self.process)

    def wait(self, seconds):
        """The exit code, or None where the build is not done in that time."""
        try:
            return self.process.wait(timeout=max(0.1, min(seconds, self.run.left() - 5)))
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        end_group(self.process)
        self.process.wait()

    def said(self):
        return self.log.read_text(errors="replace")


def usable(run, folder):
    """Whether programs and library of this folder run here."""
    folder = Path(folder)
    library = folder / ("emulation/mome_cuda_emulation.so" if run.options.emulation else "Release/mome_cuda.so")
    return all((folder / name).exists() for name in TARGETS) and library.exists() and run.command(folder / "mome_kernels", "--mode", "support", timeout=20).returncode == 0


def begin(run, content):
    """The stage `build`: with something brought along that runs here the build goes on beside the next stages; else it is waited for."""
    ready = run.options.prebuilt is not None and usable(run, run.options.prebuilt)
    if not ready or not run.options.emulation:  # a rehearsal that has its programs builds nothing
        run.building = Building(run)
        run.building.begin()
    if ready:
        run.use_build(run.options.prebuilt)
        content |= {"passed": True, "prebuilt": str(run.build)}
        return
    if run.options.prebuilt is not None:
        content["prebuilt"] = f"{run.options.prebuilt}: does not run here"
    judge(run, content, run.building.wait(300))


def judge(run, content, code):
    """Records whether this machine's own build succeeded; if it failed, with the end of its output."""
    building, run.building = run.building, None
    if code is None:
        building.stop()
    said = building.said()
    content["warnings"] = sorted({line.strip()[:200] for line in said.splitlines() if "warning" in line.lower()})[:40]
    content["assembler"] = assembler_problems(said)
    run.result["verdicts"]["assembler"] = not content["assembler"]
    if content["assembler"]:  # the next build shall say it again
        shutil.rmtree(building.folder / "CMakeFiles" / "mome_cuda.dir", ignore_errors=True)
    content["passed"] = code == 0
    if code != 0:
        content["output"] = "no end in time" if code is None else ends(subprocess.CompletedProcess([], code, said, ""))
    keep(building.log, said)
    building.log.unlink(missing_ok=True)


def adopt(run, content):
    """The stage `built`, before anything is measured: takes the build that went on beside the checks, where it is done and its kernels
    pass the smoke gate too. One that failed, or is not done, changes nothing but its verdict: what was brought along goes on."""
    if run.building is None:
        content["skipped"] = "built before"
        return
    folder = run.building.folder
    judge(run, content, run.building.wait(90))
    if content["passed"]:
        import checks
        before = run.build
        run.use_build(folder)
        smoke = content["smoke"] = {}
        if checks.smoke_of(run, smoke, [run.family]):
            content["taken"] = str(folder)
        else:
            run.use_build(before)
            content["passed"] = False


# ---- what is kept beside the result

def keep(place, text):
    """`text` as <place>.gz, cut where it would be too large to travel."""
    raw = text.encode()
    packed = gzip.compress(raw, 6)
    while len(packed) > KEPT_BYTES:
        raw = raw[:len(raw) * KEPT_BYTES // len(packed) - 1024]
        packed = gzip.compress(raw + b"\n(cut here)\n", 6)
    target = place.with_name(place.name + ".gz")
    target.write_bytes(packed)
    return target.name


def functions_of(listing):
    """(name, text) of each function in cuobjdump's output."""
    name, lines = None, []
    for line in listing.splitlines(keepends=True):
        begun = re.match(r"\s*Function : (\S+)", line)
        if begun:
            if name:
                yield name, "".join(lines)
            name, lines = begun[1], []
        lines.append(line)
    if name:
        yield name, "".join(lines)


def main_functions(listing):
    """(function, text) of each of MAIN_KERNELS: the longest, since code for devices that do not run it is empty."""
    found = {}
    for name, text in functions_of(listing):
        for kernel, pattern in MAIN_KERNELS.items():
            if re.search(pattern, name) and len(text) > len(found.get(kernel, ("", ""))[1]):
                found[kernel] = (name, text)
    return found


def listing(run, content):
    """The machine code of the main kernels, from the library the stages ran with."""
    done = run.command("cuobjdump", "--dump-sass", run.environment["MOME_CUDA_LIBRARY"], timeout=60)
    found = main_functions(done.stdout)
    content["kernels"] = {kernel: {"function": name, "instructions": len(re.findall(r"^\s*/\*[0-9a-f]{4,}\*/", text, re.MULTILINE))} for kernel, (name, text) in found.items()}
    content["missing"] = sorted(set(MAIN_KERNELS) - set(found))
    if done.returncode != 0 or not found:
        raise RuntimeError(ends(done, 400))
    content["file"] = keep(Path(run.options.out).parent / "sass.txt", "\n".join(text for _, text in found.values()))


def main():
    [folder] = map(Path, sys.argv[1:])
    made = ROOT / "build-gpu"
    for words in (configure_words(made, True), build_words(made, True)):
        subprocess.run([str(word) for word in words], check=True)
    (folder / "Release").mkdir(parents=True, exist_ok=True)
    for name in TARGETS + ["Release/mome_cuda.so"]:
        shutil.copy2(made / name, folder / name)


if __name__ == "__main__":
    main()
