"""Builds, checks and measures the CUDA kernels on a GPU machine, in one command and without Node.

    python3 scripts/gpu/run.py --out result.json [--minutes 8.8] [--build build-gpu] [--prebuilt prebuilt-gpu] [--node node] [--emulation] [--stages a,b]

Needs a GPU and its driver, Python with PyTorch, and either CMake, g++ and nvcc or a folder that build.py made. The most important stages run first, and
the result is written after every figure, so that a run that is cut off keeps its figures so far. The exit code is 0 only if every check that ran passed.
docs/cuda.md describes each stage, and the traces that a failure leaves.

With --emulation the kernels run on this processor (native/cuda/emulation), without a GPU, PyTorch or figures: this checks the script itself.
"""
import argparse
import json
import sys

import build
import checks
import figures
import sweep
from harness import ROOT, Run

BUILD = "build"  # without it the folder is taken as it is
PREBUILT = ROOT / "prebuilt-gpu"


def stages(options):
    """The stages in order, each as (name, function, least seconds it needs)."""
    memcheck = lambda run, content: checks.sanitizer(run, content, ["memcheck"], decides=True)
    others = lambda run, content: checks.sanitizer(run, content, ["synccheck", "racecheck"], decides=False)
    # Leaves this many seconds for the later checks, and for the diagnosis if the smoke gate found faults.
    compiled = lambda run, content: figures.compiled(run, content, reserve=75 if run.family == "sm90" else 140)
    # Tuning begins with the build and ends before anything is measured.
    adopt = lambda run, content: content.update(tunedMeanwhile=run.warm_up.stop() if run.warm_up else []) or build.adopt(run, content)
    chosen = [("machine", checks.machine, 5), (BUILD, build.begin, 10), ("smoke", checks.smoke, 5), ("kernels", checks.kernels, 10), ("golden", checks.golden, 10)]
    if options.emulation:
        chosen += [("sweep", sweep.sweep, 5)]
    else:
        chosen += [("built", adopt, 5), ("sweep", sweep.sweep, 20), ("profile", sweep.profile, 30), ("ops", figures.ops, 10), ("ceilings", figures.ceilings, 10), ("model", figures.model, 30),
                   ("compiled", compiled, 45), ("full_size", checks.full_size, 20), ("mixed", figures.mixed, 15), ("listing", build.listing, 5), ("diagnose", checks.diagnose, 5),
                   ("sanitizer", memcheck, 20), ("sanitizer_others", others, 20)]
    if options.node:
        # Before the long stages, which use up the remaining time.
        at = next((i for i, (name, _, _) in enumerate(chosen) if name == "listing"), len(chosen))
        chosen.insert(at, ("addon", checks.addon, 20))
    return [each for each in chosen if options.stages is None or each[0] in options.stages]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=8.8)
    parser.add_argument("--build", default=str(ROOT / "build-gpu"))
    parser.add_argument("--prebuilt", default=PREBUILT if PREBUILT.exists() else None, help="a folder that build.py made: its programs run while this machine builds its own")
    parser.add_argument("--emulation", action="store_true")
    parser.add_argument("--node", help="a Node binary: runs `mome verify` through the addon too, and its CUDA tests where node_modules/vitest is there")
    parser.add_argument("--stages", type=lambda names: names.split(","), help="these alone; without `build` the build folder is taken as it is")
    options = parser.parse_args()
    options.required = [name for name in (BUILD, "smoke", "kernels", "golden") if options.stages is None or name in options.stages]
    run = Run(options, (lambda result: []) if options.emulation else figures.bounds)
    building = options.stages is None or BUILD in options.stages
    run.warm_up = figures.WarmUp(run) if building and not options.emulation else None
    try:
        for name, body, least_seconds in stages(options):
            run.stage(name, lambda content, body=body: body(run, content), least_seconds)
    finally:
        run.end()
    run.save()
    print(json.dumps({"passed": run.result["passed"], "verdicts": run.result["verdicts"], "bounds": run.result["bounds"]}))
    return 0 if run.result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
