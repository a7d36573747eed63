"""`twotower serve` from its start until it is ready, and the memory that it holds.

    python benchmarks/serving_start.py --bundle runs/video-games/bundle

``ready-seconds`` counts from the start of the process until ``/ready`` says so, the bundle's
checksums verified and two requests answered. Memory is what is resident then, and after 200
requests. ``torch-loaded`` is 1 where a library of torch is mapped into the process.
"""

import argparse
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serving_process import Served
from serving_requests import real_histories

from twotower.bundle.storage import load_bundle
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results

RESULTS: Final = Path(__file__).parent / "results" / "serving-start.json"
REQUESTS: Final = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--history", type=int, default=20, help="items of a history")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    contents = load_bundle(given.bundle).contents
    histories = real_histories(contents, given.history, REQUESTS)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(given.repeats):
        with Served(given.bundle) as served, served.client() as client:
            found["ready-seconds"].append(served.seconds_to_ready)
            found["ready-cpu-seconds"].append(served.cpu_seconds)
            found["ready-memory-mb"].append(served.memory_mb())
            for history in histories:
                client.recommend(history=history)
            found["used-memory-mb"].append(served.memory_mb())
            found["peak-memory-mb"].append(served.memory_mb("VmHWM"))
            found["torch-loaded"].append(float(served.maps_torch))

    rows = [
        Row.of_repeats(
            values, dataset=contents.info.dataset, split="bundle", model="twotower serve",
            protocol="timing", metric=metric, users=len(histories),
        )
        for metric, values in found.items()
    ]  # fmt: skip
    for each in rows:
        print(f"{each.metric:20s} {each.value:9.4g} [{each.low:.4g}, {each.high:.4g}]")
    write_results(given.out, collect_meta(started, packages=(*PACKAGES, "onnxruntime")), rows)


if __name__ == "__main__":
    main()
