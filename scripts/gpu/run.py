"""Everything a GPU machine is needed for, in one command and without Node: builds, checks and measures the CUDA kernels.

    python3 scripts/gpu/run.py --out result.json [--minutes 8.8] [--build build-gpu] [--prebuilt build] [--node node] [--emulation] [--stages a,b]

Needs CMake, g++, nvcc, a GPU and its driver, and Python with PyTorch. Most important first; the result is written after every
figure, so that a run that is cut off keeps what it had. Exit code 0 only if every check that ran passed.

With --emulation the kernels run on this processor (native/cuda/emulation): the checks of this script itself, no GPU, no PyTorch and no figures.
"""
import argparse
import json
import sys

import checks
import figures
from harness import ROOT, Run

BUILD = "build"  # without it the folder is taken as it is


def stages(options, warm_up):
    """Name, what it does, and the seconds it needs at least, in order."""
    def build(run, content):
        try:
            checks.build(run, content)
        finally:
            if warm_up:
                content["tunedMeanwhile"] = warm_up.stop()

    memcheck = lambda run, content: checks.sanitizer(run, content, ["memcheck"], decides=True)
    others = lambda run, content: checks.sanitizer(run, content, ["synccheck", "racecheck"], decides=False)
    chosen = [("machine", checks.machine, 5), (BUILD, build, 10), ("kernels", checks.kernels, 10), ("golden", checks.golden, 10)]
    if not options.emulation:
        chosen += [("ceilings", figures.ceilings, 10), ("model", figures.model, 30), ("ops", figures.ops, 10), ("full_size", checks.full_size, 20),
                   ("mixed", figures.mixed, 15), ("sanitizer", memcheck, 20), ("compiled", figures.compiled, 45), ("sanitizer_others", others, 20)]
    if options.node:
        # Before the long ones: they take what is left.
        at = next((i for i, (name, _, _) in enumerate(chosen) if name == "sanitizer"), len(chosen))
        chosen.insert(at, ("addon", checks.addon, 20))
    return [each for each in chosen if options.stages is None or each[0] in options.stages]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=8.8)
    parser.add_argument("--build", default=str(ROOT / "build-gpu"))
    parser.add_argument("--prebuilt", help="a build folder to use where building fails here")
    parser.add_argument("--emulation", action="store_true")
    parser.add_argument("--node", help="a Node binary: runs `mome verify` through the addon too, and its CUDA tests where node_modules/vitest is there")
    parser.add_argument("--stages", type=lambda names: names.split(","), help="these alone; without `build` the build folder is taken as it is")
    options = parser.parse_args()
    options.required = [name for name in (BUILD, "kernels", "golden") if options.stages is None or name in options.stages]
    run = Run(options, (lambda result: []) if options.emulation else figures.bounds)
    building = options.stages is None or BUILD in options.stages
    for name, body, least_seconds in stages(options, figures.WarmUp(run) if building and not options.emulation else None):
        run.stage(name, lambda content, body=body: body(run, content), least_seconds)
    run.save()
    print(json.dumps({"passed": run.result["passed"], "verdicts": run.result["verdicts"], "bounds": run.result["bounds"]}))
    return 0 if run.result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
