"""The script's own judgement, on made-up results: `python3 scripts/gpu/test_run.py`, no device needed."""
import array
import gzip
import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import types
import unittest

sys.modules["numpy"] = None  # a bare machine may have none

import build
import checks
import figures
import harness
import sweep


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
        program(self.folder, "mome_device_bench", f"print('{{}}')\nprint('{json.dumps(kernel)}')")
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
            names = ["mome", "mome again"] + ["torch eager", "torch.compile", "mome beside compile"] * (shape in figures.PEERS)
            self.assertEqual([name for name in names if "median" not in stages["model"][shape].get(name, {})], [], shape)
        self.assertEqual((stages["ops"]["mome"]["qkv"]["timesTorch"], stages["ops"]["mome"]["qkv"]["teraflops"]), (2, 2))
        self.assertEqual((len(stages["mixed"]["apart"]), stages["mixed"]["ratio"]), (3, 3))
        self.assertTrue(saved["verdicts"]["model"])

    def test_compiling_falls_back_to_less_tuning(self):
        self.use_peer("import sys\nif sys.argv[1] == 'compile': sys.exit('tuning failed')\nprint('{\"seconds\": [2, 2], \"shape\": \"images 64\"}')")
        content = {}
        figures.compiled(self.run_, content)
        entry = self.run_.result["stages"]["model"]["images 64"]
        self.assertEqual((content["images 64"]["compile-default"]["median"], entry["torch.compile"]["median"]), (2, 2))
        self.assertIn("tuning failed", content["images 64"]["compile"]["error"])
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
        self.assertFalse(self.passed("MOME_GEMM_TILE", "2", "0.99", "0"))  # every tile is held to float32
        self.assertTrue(self.passed("MOME_GEMM_TILE", "2", "1", "1e-30"))  # other bits are recorded alone
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
        self.assertEqual(build.assembler_problems("\n".join([serial, spill % 8, spill % 16, "ptxas info : 0 bytes gmem"])), sorted([serial, spill % 16]))


class Figures(unittest.TestCase):
    def result(self):
        seconds = lambda value: {"median": value}
        images = {shape: {name: seconds(figures.count_of(shape) / rate) for name, rate in (("mome", 20000), ("mome again", 1), ("torch eager", 2000), ("torch.compile", 9000))}
                  for shape in figures.ROUNDS}
        torch = {"attention": seconds(2)}
        mome = {"qkv": seconds(1), "fc1": seconds(1), "fc2": seconds(1), "expert_ffn": seconds(2), "expert_ffn, 3 experts": seconds(2), "attention": seconds(1)}
        return {"stages": {"model": {"passed": True, "clocks": {}} | images, "ops": {"torch": torch, "mome": mome}, "mixed": {"ratio": 1.1},
                           "sweep": {"best": {f"{product} 12608": {"shareOfCublas": 0.96} for product in ("qkv", "proj", "fc1", "fc2")}}}}

    def missed(self, result):
        return [bound["name"] for bound in figures.bounds(result) if not bound["met"]]

    def test_every_bound_can_be_missed(self):
        self.assertEqual((len(figures.bounds(self.result())), self.missed(self.result())), (12, []))
        result = self.result()
        for side in (result["stages"]["ops"]["mome"], *(result["stages"]["model"][shape] for shape in figures.ROUNDS)):
            for name, entry in side.items():
                if name not in ("expert_ffn", "torch eager", "torch.compile"):
                    entry["median"] *= 10
        result["stages"]["mixed"]["ratio"] = 0.9
        for entry in result["stages"]["sweep"]["best"].values():
            entry["shareOfCublas"] = 0.94
        self.assertEqual(self.missed(result), [bound["name"] for bound in figures.bounds(self.result())])

    def test_what_was_not_measured_meets_nothing(self):
        result = self.result()
        result["stages"]["ops"]["mome"] = {"qkv": {"median": 2}}
        result["stages"]["ops"]["torch"] = {"error": "no torch"}
        result["stages"]["model"]["images 64"]["torch.compile"] = {"error": "late"}
        del result["stages"]["mixed"], result["stages"]["sweep"]
        bounds = figures.bounds(result)
        names = [bound["name"] for bound in bounds if bound["value"] is not None]
        self.assertEqual(names, ["images 64, per second", "batch 1, times faster than torch eager", "images 1, times torch.compile", "images 256, per second"])
        self.assertEqual(([bound["name"] for bound in bounds if bound["met"]], len(bounds)), (names, 12))

    def test_shapes_are_those_of_the_stored_programs(self):
        stored = {}
        for name in ("base.embed", "base.match"):
            stored |= json.loads((harness.PROGRAMS / f"{name}.json").read_text())["shapes"]
        self.assertLessEqual({*figures.ROUNDS, *figures.OVERLAPPED, *figures.PEERS}, set(stored))
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


class Sweep(unittest.TestCase):
    def lines(self):
        """What a device would take whose tile model is exact: 2e-6 s, 1e-6 s a wave, and 1e-8 s a wave and column of depth."""
        return [{"product": name, "rows": rows, "columns": columns, "depth": depth, "family": "sm90", "tile": 0, "tileRows": 128, "tileColumns": 192, "epilogue": True,
                 "flops": 2 * rows * columns * depth, "seconds": 2e-6 + (1e-6 + 1e-8 * depth) * math.ceil(math.ceil(rows / 128) * math.ceil(columns / 192) / 132)}
                for name, columns, depth in (("qkv", 2304, 768), ("proj", 768, 768), ("fc2", 768, 3072)) for rows in (197, 1576, 6304, 12608, 50432)]

    def test_finds_the_model_again(self):
        [(name, fitted)] = sweep.fit(self.lines(), 132, 1500).items()
        self.assertEqual(name, "sm90 128 x 192")
        for value, expected in zip((fitted["firstSeconds"], fitted["secondsPerWave"], fitted["secondsPerWaveAndDepth"]), (2e-6, 1e-6, 1e-8)):
            self.assertAlmostEqual(value / expected, 1, 6)
        self.assertLess(fitted["worstError"], 1e-6)
        self.assertAlmostEqual(fitted["productsPerCycle"], 128 * 192 / (1e-8 * 1500e6), 3)
        self.assertNotIn("firstCycles", sweep.fit(self.lines(), 132, None)[name])

    def test_too_few_figures_give_no_model(self):
        self.assertEqual(sweep.fit(self.lines()[:2], 132, 1500), {})

    def test_the_best_tile_is_set_against_cublas(self):
        slow = self.lines()[0]
        fast, bare = slow | {"tile": 1, "seconds": slow["seconds"] / 2}, slow | {"tile": 2, "seconds": 0, "epilogue": False}
        best = sweep.best_of([slow, fast, bare], {"qkv 197": slow["seconds"] / 4})
        self.assertEqual((best["qkv 197"]["tile"], best["qkv 197"]["shareOfCublas"]), (1, 0.5))
        self.assertNotIn("shareOfCublas", sweep.best_of([slow], {"error": "no torch"})["qkv 197"])


class Profiler(unittest.TestCase):
    def test_keeps_what_is_wanted_of_the_last_launch(self):
        table = '"ID","Kernel Name","sm__inst_issued.sum","lts__t_bytes.sum","launch__grid_size"\n"","","inst","Mbyte",""\n' + "".join(
            f'"{i}","_ZN4mome4cuda22gemm_forward_bf16_sm90ILi128ELi192ENS0_1QkvEpilogue","{i},000","n/a","99"\n' for i in (1, 2))
        self.assertEqual(sweep.counted(table), {"qkv": {"sm__inst_issued.sum": 2000.0, "lts__t_bytes.sum": "n/a"}})
        self.assertEqual(sweep.counted("==ERROR== no permission"), {})


class Kept(unittest.TestCase):
    def test_finds_the_main_kernels_of_a_listing(self):
        name = "_ZN4mome4cuda22gemm_forward_bf16_sm90ILi128ELi192ENS0_38_GLOBAL__N__9851bb9d_6_qkv_cu_f4aa467211QkvEpilogueINS0_4bf16EEEEEvNS0_12GemmOperandsIS4_EENS0_8GemmMapsET1_"
        listing = f"arch = sm_80\n\tFunction : {name}\n EXIT\narch = sm_90a\n\tFunction : other\n MOV\n\tFunction : {name}\n        /*0000*/ HGMMA\n        /*0010*/ EXIT\n"
        found = build.main_functions(listing)
        self.assertEqual(list(found), ["qkv"])
        self.assertIn("HGMMA", found["qkv"][1])

    def test_cuts_what_is_too_large_to_travel(self):
        with tempfile.TemporaryDirectory() as folder:
            before, build.KEPT_BYTES = build.KEPT_BYTES, 50_000
            self.addCleanup(setattr, build, "KEPT_BYTES", before)
            text = os.urandom(100_000).hex()
            place = pathlib.Path(folder) / "sass.txt"
            self.assertEqual(build.keep(place, text), "sass.txt.gz")
            packed = (pathlib.Path(folder) / "sass.txt.gz").read_bytes()
            self.assertLessEqual(len(packed), 50_000)
            self.assertTrue(text.startswith(gzip.decompress(packed).decode().split("\n")[0]))


class Building(unittest.TestCase):
    """This machine's own build, by a cmake that is made up."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.run_ = new_run(folder.name, ["build"])
        self.run_.options.build = str(self.folder / "own")
        self.run_.options.emulation = False
        self.addCleanup(self.run_.end)
        (self.folder / "bin").mkdir()
        self.run_.environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{self.run_.environment['PATH']}"

    def cmake(self, text):
        program(self.folder / "bin", "cmake", text)

    def bring(self, name, smoke="1 comparisons with ref on x.so"):
        folder = self.folder / name
        (folder / "Release").mkdir(parents=True)
        for each in build.TARGETS:
            program(folder, each, f"print({smoke!r})")
        (folder / "Release" / "mome_cuda.so").touch()
        return str(folder)

    def stage(self, name, body):
        self.run_.stage(name, lambda content: body(self.run_, content), 1)
        saved = json.loads(pathlib.Path(self.run_.options.out).read_text())
        return saved["stages"][name], saved["verdicts"]

    COMPILE_ERROR = "import sys\nprint('qkv.cu(12): error: expected a ;')\nsys.exit(2)"

    def test_a_compile_error_without_another_build_fails(self):
        self.cmake(self.COMPILE_ERROR)
        content, verdicts = self.stage("build", build.begin)
        self.assertFalse(verdicts["build"])
        self.assertIn("qkv.cu(12): error", content["output"])
        self.assertTrue((pathlib.Path(self.run_.options.out).parent / "build.log.gz").exists())

    def test_a_compile_error_beside_what_was_brought_along_costs_that_verdict_alone(self):
        self.cmake(self.COMPILE_ERROR)
        self.run_.options.prebuilt = self.bring("brought")
        content, verdicts = self.stage("build", build.begin)
        self.assertTrue(verdicts["build"] and content["prebuilt"].endswith("brought"))
        content, verdicts = self.stage("built", build.adopt)
        self.assertEqual((verdicts["build"], verdicts["built"], self.run_.build.name), (True, False, "brought"))
        self.assertIn("error: expected a ;", content["output"])

    def test_a_build_that_is_done_is_taken_when_its_kernels_pass(self):
        for smoke, taken in (("1 comparisons with ref on x.so", "own"), ("0 comparisons with ref on x.so", "brought")):
            self.cmake("print('ptxas info')")
            self.run_.options.prebuilt = str(self.folder / "brought") if (self.folder / "brought").exists() else self.bring("brought")
            shutil.rmtree(self.folder / "own", ignore_errors=True)
            self.stage("build", build.begin)
            self.bring("own", smoke)
            _, verdicts = self.stage("built", build.adopt)
            self.assertEqual((verdicts["built"], self.run_.build.name), (taken == "own", taken))

    def test_a_build_that_does_not_end_is_ended(self):
        self.cmake("import time\nprint('begun', flush=True)\ntime.sleep(60)")
        self.run_.options.prebuilt = self.bring("brought")
        self.run_.options.minutes = (time.monotonic() - self.run_.started + 9) / 60
        self.stage("build", build.begin)
        process = self.run_.building.process
        content, verdicts = self.stage("built", build.adopt)
        self.assertEqual((content["output"], verdicts["built"], self.run_.build.name), ("no end in time", False, "brought"))
        self.assertIsNotNone(process.poll())

    def test_spills_fail_the_assembler(self):
        self.cmake("print(\"ptxas warning : Registers are spilled to local memory in function 'f', 28 bytes spill stores, 36 bytes spill loads\")")
        content, verdicts = self.stage("build", build.begin)
        self.assertEqual((verdicts["build"], verdicts["assembler"], len(content["assembler"])), (True, False, 1))


EMULATED = harness.ROOT / "build"


@unittest.skipUnless((EMULATED / "mome_kernels").exists() and (EMULATED / "emulation").exists(), "the native tests are not built")
class Rehearsal(unittest.TestCase):
    """Kernels that fail, on the emulation: what the result file must hold then."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_ = new_run(folder.name, ["smoke", "kernels"])
        self.run_.use_build(EMULATED)
        for name, value in (("FAMILIES", {"sm90": 1, "sm80": 1}), ("listed_ops", self.some_ops)):
            before = getattr(checks, name)
            setattr(checks, name, value)
            self.addCleanup(setattr, checks, name, before)

    def some_ops(self, run):
        return [{"op": "qkv", "type": "float32", "product": True}, {"op": "qkv", "type": "bfloat16", "product": True}, {"op": "tanh", "type": "float32", "product": False}]

    def plant(self, fault):
        self.run_.environment["MOME_EMULATION_PLANT"] = fault

    def stage(self, body):
        self.run_.stage(body.__name__, lambda content: body(self.run_, content), 1)
        saved = json.loads(pathlib.Path(self.run_.options.out).read_text())
        return saved["stages"][body.__name__], saved["verdicts"][body.__name__] if body.__name__ in saved["verdicts"] else None

    def test_a_hang_gives_up_and_the_rest_goes_on_with_the_older_family(self):
        self.plant("hang")
        content, passed = self.stage(checks.smoke)
        self.assertEqual((passed, content["goesOnWith"], content["sm80 tile 0"]), (False, "sm80", "passed"))
        self.assertIn("block 0 waited too long for a copy to shared memory (stage 0, parity 0)", content["sm90 tile 0"]["output"])
        content, passed = self.stage(checks.kernels)  # with sm80 nothing hangs, but the one run that asks for sm90's tile
        self.assertEqual(set(content["failed"]), set())
        self.assertEqual((passed, content["ops"]["qkv"]["bfloat16"]["failed"]), (True, 0))
        content, _ = self.stage(checks.diagnose)
        self.assertIn("waited too long", content["sm90 tile 0"]["probes"])
        self.assertIn("waited too long", content["ops"]["qkv"])

    def test_an_error_that_the_device_keeps_blames_one_op_and_type(self):
        self.plant("hang")
        content, passed = self.stage(checks.kernels)
        self.assertFalse(passed)
        blamed = {name for name in content["failed"] if name.startswith("as chosen")}
        self.assertEqual(blamed, {"as chosen, qkv bfloat16"})
        self.assertEqual([content["ops"]["tanh"]["float32"]["failed"], content["ops"]["qkv"]["float32"]["failed"]], [0, 0])
        self.assertGreater(content["ops"]["tanh"]["float32"]["compared"], 0)

    def test_wrong_numbers_are_mapped_and_probed(self):
        self.plant("wrong")
        content, passed = self.stage(checks.kernels)
        self.assertFalse(passed)
        failed = content["failed"]["as chosen, qkv bfloat16"]
        [first, *_] = failed["maps"]
        self.assertEqual({i for i, share in enumerate(first["byRow64"]) if share > 0}, {17})
        self.assertEqual({i for i, share in enumerate(first["byColumn8"]) if share > 0}, {3})
        self.assertTrue(all(tile["share"] < 0.01 for tile in first["byTile"]))
        self.assertEqual((first["first"][0]["row"], first["first"][0]["column"]), (17, 3))
        self.assertEqual([(probe["first"][0]["got"], probe["first"][0]["expected"]) for probe in failed["probes"]], [(-18, 18), (-4, 4), (-4, 4), (-18, 18)])

    def test_shared_memory_that_is_misaligned_is_said(self):
        self.plant("misaligned")
        content, passed = self.stage(checks.smoke)
        self.assertIn("does not begin on a multiple of 1024 bytes", content["sm90 tile 0"]["output"])

    def test_what_never_ends_is_ended(self):
        self.plant("endless")
        before, checks.SMOKE_SECONDS = checks.SMOKE_SECONDS, 1
        self.addCleanup(setattr, checks, "SMOKE_SECONDS", before)
        content = {}
        self.assertFalse(checks.smoke_of(self.run_, content, ["sm90"]))
        self.assertIn("no end after 6 s", content["sm90 tile 0"]["output"])

    def test_what_had_too_little_of_the_processor_gets_a_second_try(self):
        before, checks.SMOKE_SECONDS = checks.SMOKE_SECONDS, 0.5  # six times that in a rehearsal
        self.addCleanup(setattr, checks, "SMOKE_SECONDS", before)
        with tempfile.TemporaryDirectory() as folder:
            mark = pathlib.Path(folder) / "mark"
            program(folder, "mome_kernels", f"import pathlib, time\nmark = pathlib.Path({str(mark)!r})\nif not mark.exists(): mark.touch(); time.sleep(60)\nprint('1 comparisons with ref on x.so')")
            self.run_.build = pathlib.Path(folder)
            content = {}
            self.assertTrue(checks.smoke_of(self.run_, content, ["sm90"]))
            self.assertEqual(content["sm90 tile 0"], "passed")

    def test_a_device_that_is_lost_between_launches_fails_that_process(self):
        self.run_.environment["MOME_EMULATION_FAIL_AFTER"] = "1"
        content, passed = self.stage(checks.kernels)
        self.assertFalse(passed)
        self.assertIn("device: lost: a kernel failed", content["failed"]["as chosen, tanh float32"]["output"])

    def test_a_program_that_compares_nothing_has_not_passed(self):
        with tempfile.TemporaryDirectory() as folder:
            program(folder, "mome_kernels", "print('skipped: no device')")
            self.run_.build = pathlib.Path(folder)
            content, passed = self.stage(checks.kernels)
            self.assertFalse(passed)
            self.assertIn("as chosen, tanh float32", content["failed"])

    def test_a_run_that_is_cut_off_leaves_a_whole_file(self):
        out = pathlib.Path(self.run_.options.out)
        words = [sys.executable, "run.py", "--emulation", "--prebuilt", EMULATED, "--out", out]
        process = subprocess.Popen([str(word) for word in words], cwd=pathlib.Path(__file__).parent, env=dict(os.environ, MOME_EMULATION_PLANT="endless", PYTHONDONTWRITEBYTECODE="1"),
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and not (out.exists() and "build" in json.loads(out.read_text())["verdicts"]):
                time.sleep(0.2)
        finally:
            harness.end_group(process)
            process.wait()
        saved = json.loads(out.read_text())
        self.assertEqual((saved["passed"], saved["verdicts"]["build"], "smoke" in saved["verdicts"]), (False, True, False))

    def test_a_run_ends_by_itself_in_its_time(self):
        out, began = pathlib.Path(self.run_.options.out), time.monotonic()
        words = [sys.executable, "run.py", "--emulation", "--prebuilt", EMULATED, "--minutes", "0.2", "--out", out]
        done = subprocess.run([str(word) for word in words], cwd=pathlib.Path(__file__).parent, env=dict(os.environ, MOME_EMULATION_PLANT="endless", PYTHONDONTWRITEBYTECODE="1"),
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertLess(time.monotonic() - began, 12 + 8)  # Python's own start and end are not the run's
        saved = json.loads(out.read_text())
        self.assertEqual(saved["stages"]["golden"], {"skipped": "no time left"})
        self.assertFalse(saved["passed"])


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
