"""The script's own judgement, on made-up results: `python3 scripts/gpu/test_run.py`, no device needed."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

import numpy as np

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

    def test_a_batch_that_does_not_end_takes_no_other(self):
        # As mome_run says them: two of four batches, the second cut off.
        line = json.dumps({"seconds": [1] * harness.WARM_UP + [0.5, 0.25]})
        program(self.folder, "mome_run", f"import sys, time\nprint('''{line}''', flush=True)\nsys.stdout.write('''{line[:20]}''')\nsys.stdout.flush()\ntime.sleep(60)")
        self.run_.options.minutes = 0  # five seconds are left to every command
        content = self.run_.result["stages"]["model"] = {}
        figures.ours(self.run_, content, "mome", figures.ROUNDS)
        self.assertEqual(self.saved()["stages"]["model"]["images 64"]["mome"]["median"], 0.375)
        for batch in (1, 8, 256):
            self.assertIn("no end after", content[f"images {batch}"]["mome"]["error"])

    def test_compiling_falls_back_to_less_tuning(self):
        peer = program(self.folder, "peer", "import sys\nif sys.argv[1] == 'compile': sys.exit('tuning failed')\nprint('{\"seconds\": [2, 2], \"batch\": 64}')")
        before, figures.PEER = figures.PEER, peer
        self.addCleanup(setattr, figures, "PEER", before)
        content = {}
        figures.compiled(self.run_, content)
        entry = self.run_.result["stages"]["model"]["images 64"]
        self.assertEqual((content["images 64"], entry["torch.compile"]["median"]), ("compile-default", 2))
        self.assertIn("tuning failed", content["images 64, compile"])
        self.assertIn("error", entry["mome beside compile"])  # no mome_run here


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
        images = {f"images {batch}": {"mome": seconds(batch / 10000), "mome again": seconds(1), "torch eager": seconds(batch / 2000), "torch.compile": seconds(batch / 9000)}
                  for batch in figures.ROUNDS}
        torch = {"matmul 768 x 2304": seconds(0.8), "matmul 768 x 3072": seconds(0.8), "matmul 3072 x 768": seconds(0.8), "attention": seconds(2)}
        mome = {"qkv": seconds(1), "fc1": seconds(1), "fc2": seconds(1), "expert_ffn": seconds(2), "expert_ffn, 3 experts": seconds(2), "attention": seconds(1)}
        return {"stages": {"model": {"passed": True, "clocks": {}} | images, "ops": {"torch": torch, "mome": mome}, "mixed": {"ratio": 1.1}}}

    def missed(self, result):
        return [bound["name"] for bound in figures.bounds(result) if not bound["met"]]

    def test_every_bound_can_be_missed(self):
        self.assertEqual((len(figures.bounds(self.result())), self.missed(self.result())), (11, []))
        result = self.result()
        for side in (result["stages"]["ops"]["mome"], *(result["stages"]["model"][f"images {batch}"] for batch in figures.ROUNDS)):
            for name, entry in side.items():
                if name not in ("expert_ffn", "torch eager", "torch.compile"):
                    entry["median"] *= 10
        result["stages"]["mixed"]["ratio"] = 0.9
        self.assertEqual(self.missed(result), [bound["name"] for bound in figures.bounds(self.result())])

    def test_what_was_not_measured_is_left_out(self):
        result = self.result()
        result["stages"]["ops"]["mome"] = {"qkv": {"median": 2}}
        result["stages"]["ops"]["torch"] = {"error": "no torch"}
        result["stages"]["model"]["images 64"]["torch.compile"] = {"error": "late"}
        del result["stages"]["mixed"]
        names = [bound["name"] for bound in figures.bounds(result)]
        self.assertEqual(names, ["images 64, per second", "batch 1, times faster than torch eager", "images 256, times torch.compile", "images 256, per second"])

    def test_clocks_are_those_of_a_busy_card(self):
        said = "1980, 2619, 350.10, 41, 0x0000000000000000\n1410, 2619, 699.90, 63, 0x0000000000000004\nbroken"
        clocks = harness.clocks_of(said)
        self.assertEqual((clocks["clocks.sm"], clocks["throttleReasons"]), ([1410, 1695, 1980], {"0x0000000000000000": 1, "0x0000000000000004": 1}))


class Checkpoint(unittest.TestCase):
    def test_reads_what_torch_wrote(self):
        weights = harness.read_checkpoint(checks.GOLDEN / "tiny_relative" / "weights.pt")
        self.assertGreater(len(weights), 100)
        self.assertTrue(all(values.dtype == "float32" for values in weights.values()))


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
                values = np.fromfile(out, np.float32)
                self.assertEqual(values.size, 2 * sum(output["count"] for output in first["outputs"]))
                self.assertTrue(np.isfinite(values).all() and np.abs(values).max() > 0)
                np.testing.assert_array_equal(values[:values.size // 2], values[values.size // 2:])


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    unittest.main()
