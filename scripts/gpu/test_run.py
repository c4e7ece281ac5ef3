"""The script's own judgement, on made-up results: `python3 scripts/gpu/test_run.py`, no device needed."""
import array
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import types
import unittest

sys.modules["numpy"] = None  # a bare machine may have none

import checks
import figures
import harness


def new_run(folder, required=(), minutes=9):
    options = types.SimpleNamespace(out=str(pathlib.Path(folder) / "deep" / "result.json"), minutes=minutes, build=folder, prebuilt=None, emulation=True,
                                    node=None, required=required)
    return harness.Run(options, figures.bounds)


def program(folder, name, text):
    path = pathlib.Path(folder) / name
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return path


class Stages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.run_ = new_run(self.folder, ["build"])

    def saved(self):
        return json.loads(pathlib.Path(self.run_.options.out).read_text())

    def test_a_failure_keeps_what_the_stage_had(self):
        def body(content):
            content["first"] = 1
            raise RuntimeError("late")

        self.run_.stage("model", body)
        self.assertEqual((self.saved()["stages"]["model"]["first"], self.saved()["verdicts"]["model"]), (1, False))

    def test_passes_only_with_every_required_stage(self):
        self.run_.save()
        self.assertFalse(self.saved()["passed"])
        self.run_.stage("build", lambda content: content.update(passed=True))
        self.assertTrue(self.saved()["passed"])
        self.run_.stage("golden", lambda content: content.update(passed=False))
        self.assertFalse(self.saved()["passed"])

    def test_what_there_is_no_time_for_is_said(self):
        self.run_.options.minutes = 0
        self.run_.stage("model", lambda content: self.fail("begun"))
        self.assertEqual(self.saved()["stages"]["model"], {"skipped": "no time left"})

    def leave(self, seconds):
        """Lets the run end in so many seconds."""
        self.run_.options.minutes = (time.monotonic() - self.run_.started + seconds) / 60

    def test_no_command_outlives_the_run(self):
        # What a program has started, and left behind with its output open, ends with it.
        late = program(self.folder, "late", "import subprocess, time\nprint('begun', flush=True)\nsubprocess.Popen(['sleep', '30'])\ntime.sleep(30)")
        self.leave(2)
        done = self.run_.command(late)
        self.assertEqual((done.returncode, done.stdout), (124, "begun\n"))
        self.assertLess(-self.run_.left(), 1)
        self.assertEqual(self.run_.command(late).stderr, "no time left")

    def test_numbers_that_are_none_stay_readable(self):
        self.run_.stage("golden", lambda content: content.update(worst=[math.nan, 1.5], passed=False))
        self.assertEqual(self.saved()["stages"]["golden"]["worst"], ["nan", 1.5])

    def test_a_batch_that_does_not_end_takes_no_other(self):
        # As mome_run says them: two of four batches, the second cut off.
        line = json.dumps({"seconds": [1] * harness.WARM_UP + [0.5, 0.25]})
        self.leave(3)
        program(self.folder, "mome_run", f"import sys, time\nprint('''{line}''', flush=True)\nsys.stdout.write('''{line[:20]}''')\nsys.stdout.flush()\ntime.sleep(60)")
        content = self.run_.result["stages"]["model"] = {}
        figures.ours(self.run_, content, "mome", figures.ROUNDS)
        self.assertEqual(self.saved()["stages"]["model"]["images 64"]["mome"]["median"], 0.375)
        for shape in ("images 1", "images 8", "images 256", "texts 64"):
            self.assertIn("no end after", content[shape]["mome"]["error"])
        self.assertIn("no time left", content["pairs 32"]["mome"]["error"])  # a program of its own, for which nothing was left

    def use_peer(self, text):
        before, figures.PEER = figures.PEER, program(self.folder, "peer", text)
        self.addCleanup(setattr, figures, "PEER", before)

    def test_every_figure_is_measured_with_the_clocks_beside_it(self):
        said = json.dumps({"seconds": [1] * harness.WARM_UP + [0.5]})
        program(self.folder, "mome_run", f"import sys, time\ntime.sleep(0.3)\nfor line in open(sys.argv[1]):\n  if line.startswith('dim sequences'): print('{said}')")
        kernel = {"name": "qkv", "seconds": [1, 3], "flops": 4e12}
        program(self.folder, "mome_device_bench", f"print('{json.dumps({'kernels': [kernel]})}')")
        program(self.folder, "nvidia-smi", "import time\nprint('1980, 2619, 350.10, 41, 0x0000000000000000', flush=True)\ntime.sleep(30)")
        self.run_.environment["PATH"] = self.folder + os.pathsep + self.run_.environment["PATH"]
        self.use_peer("import json, sys, time\ntime.sleep(0.3)\nif sys.argv[1] == 'ops': print(json.dumps({'qkv': [4, 4]}))\n"
                      "for words in sys.argv[2:]: print(json.dumps({'shape': words.split(':')[0], 'mode': sys.argv[1], 'seconds': [2, 2]}))")
        for name, body in (("model", figures.model), ("ops", figures.ops), ("mixed", figures.mixed), ("compiled", figures.compiled)):
            self.run_.stage(name, lambda content, body=body: body(self.run_, content))
        saved = self.saved()
        stages = saved["stages"]
        self.assertEqual([name for name, content in stages.items() if "error" in content or content["clocks"]["samples"] != 1], [])
        for shape in figures.ROUNDS:
            names = ["mome", "torch eager", "mome again"] + ["torch.compile", "mome beside compile"] * (shape in figures.COMPILED)
            self.assertEqual([name for name in names if "median" not in stages["model"][shape].get(name, {})], [], shape)
        self.assertEqual((stages["ops"]["mome"]["qkv"]["timesTorch"], stages["ops"]["mome"]["qkv"]["teraflops"]), (2, 2))
        self.assertEqual((len(stages["mixed"]["apart"]), stages["mixed"]["ratio"]), (3, 3))
        self.assertTrue(saved["verdicts"]["model"])

    def test_compiling_falls_back_to_less_tuning(self):
        self.use_peer("import sys\nif sys.argv[1] == 'compile': sys.exit('tuning failed')\nprint('{\"seconds\": [2, 2], \"shape\": \"images 64\"}')")
        content = {}
        figures.compiled(self.run_, content)
        entry = self.run_.result["stages"]["model"]["images 64"]
        self.assertEqual((content["images 64"], entry["torch.compile"]["median"]), ("compile-default", 2))
        self.assertIn("tuning failed", content["images 64, compile"])
        self.assertIn("error", entry["mome beside compile"])  # no mome_run here


class Kernels(unittest.TestCase):
    said = """case qkv float32 qkv/17x34
case qkv bfloat16 qkv/17x34
FAILED qkv/17x34 bfloat16 output out on cuda: relative L2 1 > 2e-3
FAILED qkv/17x34 on cuda: two runs differ
case tanh float32 tanh/37
"""

    def counted(self, *said):
        counts = {}
        for each in said:
            checks.by_op(each, counts)
        return {(op, kind): (each["compared"], each["failed"]) for op, kinds in counts.items() for kind, each in kinds.items()}

    def test_counts_cases_of_each_op(self):
        whole = self.said + "3 comparisons with ref on x.so\ncuda: FAILED\n"
        self.assertEqual(self.counted(whole), {("qkv", "float32"): (1, 0), ("qkv", "bfloat16"): (1, 1), ("tanh", "float32"): (1, 0)})
        self.assertEqual(self.counted(whole, whole)["qkv", "bfloat16"], (2, 2))

    def test_a_case_that_does_not_end_has_failed(self):
        self.assertEqual(self.counted(self.said)["tanh", "float32"], (1, 1))

    def test_keeps_what_failed_among_many_cases(self):
        done = subprocess.CompletedProcess([], 1, self.said + "case a float32 a\n" * 1000 + "cuda: FAILED\n", "")
        kept = checks.failures(done)
        self.assertIn("two runs differ", kept)
        self.assertTrue(len(kept) < 500 and kept.strip().endswith("cuda: FAILED"))


class Comparison(unittest.TestCase):
    expected = array.array("f", [1, -2, 0.5, 3])

    def passed(self, actual, dtype="float32", bend=False):
        return checks.compare(array.array("f", actual), self.expected, dtype, bend)["passed"]

    def test_notices_planted_errors(self):
        for dtype, slight, plain in (("float32", 1e-6, 1e-3), ("bfloat16", 1e-3, 1)):
            self.assertTrue(self.passed([1 + slight, -2, 0.5, 3], dtype))
            self.assertFalse(self.passed([1 + plain, -2, 0.5, 3], dtype))
            self.assertFalse(self.passed(self.expected, dtype, bend=True))
            for wrong in (math.nan, math.inf):
                self.assertFalse(self.passed([1, -2, 0.5, wrong], dtype))
            self.assertFalse(self.passed([0, 0, 0, 0], dtype))
        with self.assertRaisesRegex(ValueError, "expected 4 numbers, got 3"):
            self.passed([1, -2, 0.5])

    def test_pads_between_sequences(self):
        rows = array.array("f", range(6))
        self.assertEqual(checks.padded(rows, 2, [1, 0], [2, 1], 2), array.array("f", [2, 3, 4, 5, 0, 1, 0, 0]))


class FullSize(unittest.TestCase):
    # Embeddings of 64 pictures, as mome_run would write them; `wrong` of them, with the environment or the type that it says it of.
    program = """import array, json, os, sys
values = [[1.0, 0.0] for _ in range(64)]
wrong = {wrong!r}
if os.environ.get(wrong[0]) == wrong[1] or wrong[0] in sys.argv: values[63] = [float(wrong[2]), float(wrong[3])]
array.array("f", sum(values, [])).tofile(open(sys.argv[sys.argv.index("--out") + 1], "wb"))
print(json.dumps({{"seconds": [1, 1, 1]}}))"""

    def passed(self, *wrong):
        with tempfile.TemporaryDirectory() as folder:
            program(folder, "mome_run", self.program.format(wrong=wrong))
            content = {}
            checks.full_size(new_run(folder), content)
            return content["passed"]

    def test_notices_planted_errors(self):
        self.assertTrue(self.passed("none", "", "", ""))
        self.assertFalse(self.passed("MOME_GEMM_TILE", "2", "1", "1e-30"))
        self.assertFalse(self.passed("MOME_GEMM_FAMILY", "sm80", "0.99", "0"))
        self.assertFalse(self.passed("MOME_GEMM_FAMILY", "sm80", "nan", "0"))
        self.assertFalse(self.passed("float32", "", "-1", "0"))


class Sanitizer(unittest.TestCase):
    clean = "68 comparisons with ref on x.so\ncuda-subset: passed\n========= ERROR SUMMARY: 0 errors\n"

    def judged(self, said, code=0):
        return checks.sanitized(subprocess.CompletedProcess([], code, said, ""))

    def test_passes_only_what_ran(self):
        self.assertTrue(self.judged(self.clean)["passed"])
        self.assertTrue(self.judged(self.clean.replace("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"))["passed"])
        self.assertFalse(self.judged(self.clean, 1)["passed"])
        self.assertFalse(self.judged("skipped: no device\n========= ERROR SUMMARY: 0 errors\n")["passed"])
        self.assertFalse(self.judged(self.clean.replace("0 errors", "3 errors"), 9)["passed"])
        self.assertFalse(self.judged(self.clean.split("=")[0], 124)["passed"])

    def test_says_why_it_was_skipped(self):
        self.assertIn("not supported", self.judged("========= Error: Device not supported. Please refer to the documentation\n", 1)["skipped"])
        self.assertEqual(set(self.judged("", 127)), {"skipped"})


class Assembler(unittest.TestCase):
    def test_sees_what_is_only_information(self):
        serial = "ptxas info    : (C7520) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x in function 'f'"
        spill = "ptxas warning : Registers are spilled to local memory in function 'f', %d bytes spill stores, 8 bytes spill loads"
        self.assertEqual(checks.assembler_problems("\n".join([serial, spill % 8, spill % 16, "ptxas info : 0 bytes gmem"])), sorted([serial, spill % 16]))


class Figures(unittest.TestCase):
    def result(self):
        seconds = lambda value: {"median": value}
        images = {shape: {name: seconds(figures.count_of(shape) / rate) for name, rate in (("mome", 10000), ("mome again", 1), ("torch eager", 2000), ("torch.compile", 9000))}
                  for shape in figures.ROUNDS}
        torch = {"matmul 768 x 2304": seconds(0.8), "matmul 768 x 3072": seconds(0.8), "matmul 3072 x 768": seconds(0.8), "attention": seconds(2)}
        mome = {"qkv": seconds(1), "fc1": seconds(1), "fc2": seconds(1), "expert_ffn": seconds(2), "expert_ffn, 3 experts": seconds(2), "attention": seconds(1)}
        return {"stages": {"model": {"passed": True, "clocks": {}} | images, "ops": {"torch": torch, "mome": mome}, "mixed": {"ratio": 1.1}}}

    def missed(self, result):
        return [bound["name"] for bound in figures.bounds(result) if not bound["met"]]

    def test_every_bound_can_be_missed(self):
        self.assertEqual((len(figures.bounds(self.result())), self.missed(self.result())), (11, []))
        result = self.result()
        for side in (result["stages"]["ops"]["mome"], *(result["stages"]["model"][shape] for shape in figures.ROUNDS)):
            for name, entry in side.items():
                if name not in ("expert_ffn", "torch eager", "torch.compile"):
                    entry["median"] *= 10
        result["stages"]["mixed"]["ratio"] = 0.9
        self.assertEqual(self.missed(result), [bound["name"] for bound in figures.bounds(self.result())])

    def test_what_was_not_measured_meets_nothing(self):
        result = self.result()
        result["stages"]["ops"]["mome"] = {"qkv": {"median": 2}}
        result["stages"]["ops"]["torch"] = {"error": "no torch"}
        result["stages"]["model"]["images 64"]["torch.compile"] = {"error": "late"}
        del result["stages"]["mixed"]
        bounds = figures.bounds(result)
        names = [bound["name"] for bound in bounds if bound["value"] is not None]
        self.assertEqual(names, ["images 64, per second", "batch 1, times faster than torch eager", "images 256, times torch.compile", "images 256, per second"])
        self.assertEqual(([bound["name"] for bound in bounds if bound["met"]], len(bounds)), (names, 11))

    def test_shapes_are_those_of_the_stored_programs(self):
        stored = {}
        for name in ("base.embed", "base.match"):
            stored |= json.loads((harness.PROGRAMS / f"{name}.json").read_text())["shapes"]
        self.assertLessEqual({*figures.ROUNDS, *figures.OVERLAPPED, *figures.COMPILED}, set(stored))
        for shape in figures.ROUNDS:
            texts = 0 if shape.startswith("images") else figures.count_of(shape)
            self.assertEqual(stored[shape]["dims"]["text_rows"], texts * figures.TEXT_TOKENS, shape)

    def test_clocks_are_those_of_a_busy_card(self):
        said = "1980, 2619, 350.10, 41, 0x0000000000000000\n1410, 2619, 699.90, 63, 0x0000000000000004\nbroken"
        clocks = harness.clocks_of(said)
        self.assertEqual((clocks["clocks.sm"], clocks["throttleReasons"]), ([1410, 1695, 1980], {"0x0000000000000000": 1, "0x0000000000000004": 1}))


class Checkpoint(unittest.TestCase):
    def test_reads_what_torch_wrote(self):
        weights = harness.read_checkpoint(checks.GOLDEN / "tiny_relative" / "weights.pt")
        self.assertGreater(len(weights), 100)
        for name, (shape, values) in weights.items():
            self.assertEqual((values.typecode, len(values)), ("f", math.prod(shape)), name)

    def test_follows_strides_and_widens(self):
        halves = harness.numbers(struct.pack("<6e", *range(6)), "e")
        self.assertEqual(harness.strided(halves, 1, (2, 2), (1, 3)), ((2, 2), array.array("f", [1, 4, 2, 5])))


MOME_RUN = harness.ROOT / "build" / "mome_run"


@unittest.skipUnless(MOME_RUN.exists(), "the native tests are not built")
class MomeRun(unittest.TestCase):
    def test_measures_several_runs_in_one_process(self):
        case = checks.Case("tiny_absolute")
        part = case.stored["parts"]["dual"]
        runs = [case.run_of(part, repeat=2), case.run_of(part, repeat=3)]
        with tempfile.TemporaryDirectory() as folder:
            for weights in (case.weights, None):  # of the case, or drawn
                manifest, out = harness.write_manifest(pathlib.Path(folder), part["program"], runs, weights), pathlib.Path(folder) / "out"
                done = subprocess.run([MOME_RUN, manifest, "--overlap", "--profile", "--out", out], text=True, capture_output=True, check=True)
                first, second = harness.whole_lines(done.stdout)
                self.assertEqual([len(first["seconds"]), len(second["seconds"]), len(first["overlapped"])], [2, 3, 2])
                self.assertIn("qkv", second["nanoseconds"])
                values = harness.floats_of(out)
                half = sum(output["count"] for output in first["outputs"])
                self.assertEqual(len(values), 2 * half)
                self.assertTrue(all(map(math.isfinite, values)) and max(map(abs, values)) > 0)
                self.assertEqual(values[:half], values[half:])


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    unittest.main()
