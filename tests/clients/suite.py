"""Starts the world, runs every test of this folder, stops the world. `suite.py EXEAT [unittest's -k PATTERN]`."""

import signal
import sys
import time
import unittest
from pathlib import Path

import world


class Timed(unittest.TextTestResult):
    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.stream.writeln(f"ok  {time.monotonic() - self.began:6.2f} s")

    def addSkip(self, test, reason):
        # A client that can't be tried is a hole in the trial, not a pass.
        self.addFailure(test, (AssertionError, AssertionError(f"skipped: {reason}"), None))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    exeat, patterns = sys.argv[1], sys.argv[2:]
    here = str(Path(__file__).parent)
    began = world.start(exeat)
    try:
        loader = unittest.TestLoader()
        loader.testNamePatterns = [f"*{pattern}*" for pattern in patterns] or None
        tests = loader.discover(here, pattern="test_*.py", top_level_dir=here)
        result = unittest.TextTestRunner(verbosity=2, resultclass=Timed).run(tests)
        if not result.wasSuccessful():
            print(f"--- exeat's last words\n{began.exeat.said()[-3000:]}", file=sys.stderr)
        if not result.testsRun:
            sys.exit("no test ran")
        if began.exeat.process.poll() is not None:
            sys.exit(f"exeat ended on the way, with {began.exeat.process.returncode}")
    finally:
        began.stop()
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
