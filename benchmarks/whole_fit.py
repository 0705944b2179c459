"""A whole fit of AALL1331 at defaults, by the clock: with no kernel compiled beforehand, and in later processes.

    python benchmarks/whole_fit.py [--later 2]

Bytecode of what is imported is written beforehand, as pip does when it installs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

from start import with_bytecode

FIT = """
import json, time
started = time.perf_counter()
import aemodel, nutpie
sampled = nutpie.sample
def sample(*given, **options):
    global before
    before = time.perf_counter() - started
    return sampled(*given, **options)
nutpie.sample = sample
model = aemodel.fit(aemodel.load_tables("aall1331"), seed=1)
print(json.dumps({"before": before, "seconds": time.perf_counter() - started, "ess": model.diagnostics.ess_bulk}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--later", type=int, default=2, help="how many processes after the first")
    arguments = parser.parse_args()
    print(f"{'process':22s}{'whole, s':>10s}{'before sampling, s':>20s}{'smallest bulk ESS':>19s}")
    with tempfile.TemporaryDirectory() as folder:
        caches = {"NUMBA_CACHE_DIR": f"{folder}/numba", "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor"}
        environment = with_bytecode(folder) | caches
        subprocess.run([sys.executable, "-W", "ignore", "-c", "import aemodel; aemodel.fit"], env=environment, check=True)
        for k in range(arguments.later + 1):
            started = time.perf_counter()
            command = [sys.executable, "-W", "ignore", "-c", FIT]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            name = "no kernel compiled yet" if k == 0 else f"later, {k}"
            print(f"{name:22s}{time.perf_counter() - started:>10.0f}{found['before']:>20.0f}{found['ess']:>19.0f}")


if __name__ == "__main__":
    main()
