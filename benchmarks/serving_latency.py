"""From a history to ten items in process, on one thread: how long, and where the time goes.

    python benchmarks/serving_latency.py --bundle runs/video-games/bundle

Somebody new sends a real history of 20 items. ``twotower`` is the pipeline as the service calls
it, with reasons. ``native`` is what it cannot do without, with every input laid out beforehand:
onnxruntime's run, the linear system of the fold-in, FAISS's search, and for ``native+rerank`` the
sums and products of the second stage. ``plain`` is the same request written plainly: PyTorch's
tower in eager mode, the fold-in by its textbook formula, FAISS Flat for the candidates, a
Python loop that filters them, SciPy and NumPy for the second stage.

``beside`` is another bundle's pipeline, where one is given, to say what a model costs to serve.

They answer the same requests in turns, a round each. A figure is the median of the rounds, with
the extremes. ``overlap@10`` is the share of the pipeline's items that the plain one finds too.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from serving_native import NativeCalls
from serving_plain import PlainPipeline
from serving_requests import real_histories
from threadpoolctl import threadpool_limits

from twotower.bundle.blend import Blend
from twotower.bundle.reranker import MOST_CANDIDATES
from twotower.bundle.storage import load_bundle
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request
from twotower.inference.stages import Timings

RESULTS: Final = Path(__file__).parent / "results" / "serving-latency.json"
RERANK: Final = "+rerank"
BESIDE: Final = "beside"
Method = Callable[[int], object]
"""Answers the request of a number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--beside", type=Path, help="another model's bundle, for the ratio")
    parser.add_argument("--requests", type=int, default=2000, help="different ones")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--history", type=int, default=20, help="items of a history")
    parser.add_argument("--candidates", type=int, help="re-ranked; as many as the bundle says")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    bundle = load_bundle(given.bundle)
    contents = bundle.contents
    pipeline = Pipeline(contents)
    histories = real_histories(contents, given.history, given.requests)
    stages = [False, True] if isinstance(contents.reranker, Blend) else [False]
    stage_seconds: dict[str, Timings] = {}
    methods: dict[str, Method] = {}
    second = contents.reranker
    candidates = given.candidates or (MOST_CANDIDATES if second is None else second.candidates)
    plain = PlainPipeline(bundle, candidates)
    for rerank in stages:
        native = NativeCalls(pipeline, histories, candidates if rerank else None)
        end = RERANK if rerank else ""
        clock = stage_seconds["twotower" + end] = {}
        methods |= {
            f"twotower{end}": _served(pipeline, histories, candidates, rerank, clock),
            f"native{end}": native,
            f"plain{end}": _plainly(plain, histories, rerank),
        }
    if given.beside is not None:
        other = Pipeline(load_bundle(given.beside).contents)
        methods[BESIDE] = _served(other, histories, candidates, False, {})
    with threadpool_limits(1):
        times = rounds(methods, len(histories), given.repeats, stage_seconds)
    rows = []

    def add(model: str, metric: str, values: Sequence[float]) -> None:
        rows.append(
            Row.of_repeats(
                values, dataset=contents.info.dataset, split="bundle", model=model,
                protocol="timing", metric=metric, users=len(histories),
            )
        )  # fmt: skip

    medians = {name: np.median(found, axis=1) for name, found in times.items()}  # (rounds,)
    for name, found in times.items():
        add(name, "median-ms", 1e3 * medians[name])
        add(name, "p99-ms", 1e3 * np.percentile(found, 99, axis=1))
    for name, clock in stage_seconds.items():
        for stage, seconds in clock.items():
            mean = 1e3 * seconds / (len(histories) * given.repeats)
            add(name, f"mean-{stage}-ms", [mean])
    for rerank in stages:
        end = RERANK if rerank else ""
        ours = medians[f"twotower{end}"]
        add(f"twotower{end}", "ratio-to-native", ours / medians[f"native{end}"])
        add(f"plain{end}", "ratio-to-twotower", medians[f"plain{end}"] / ours)
        add(f"plain{end}", "overlap@10", [overlap(methods, end, len(histories))])
    if given.beside is not None:
        add("twotower", "ratio-to-beside", medians["twotower"] / medians[BESIDE])
    for row in rows:
        print(f"{row.model:18s} {row.metric:18s} {row.value:9.4g} [{row.low:.4g}, {row.high:.4g}]")
    packages = (*PACKAGES, "onnxruntime")
    write_results(given.out, collect_meta(started, threads=1, packages=packages), rows)


def rounds(
    methods: dict[str, Method], requests: int, repeats: int, clocks: dict[str, Timings]
) -> dict[str, np.ndarray]:
    """Seconds ``(repeats, requests)`` of each method, which take turns round by round."""
    for method in methods.values():  # untimed: first use of memory and of lazy parts
        for request in range(min(requests, 50)):
            method(request)
    for clock in clocks.values():
        clock.clear()
    times = {name: np.empty((repeats, requests)) for name in methods}
    for repeat in range(repeats):
        for name, method in methods.items():
            for request in range(requests):
                began = time.perf_counter()
                method(request)
                times[name][repeat, request] = time.perf_counter() - began
    return times


def overlap(methods: dict[str, Method], end: str, requests: int) -> float:
    """Mean share of the pipeline's ten items that are the plain one's too."""
    shares = []
    for request in range(min(requests, 500)):
        ours = {one.item_id for one in methods[f"twotower{end}"](request)}
        shares.append(len(ours.intersection(methods[f"plain{end}"](request))) / len(ours))
    return float(np.mean(shares))


def _served(
    pipeline: Pipeline,
    histories: list[list[str]],
    candidates: int,
    rerank: bool,
    clock: Timings,
) -> Method:
    options = RecommendOptions(candidates=candidates, rerank=rerank)

    def answer(request: int) -> object:
        wanted = Request(history=histories[request])
        (found,) = pipeline.recommend_batch([wanted], options, clock)
        return found

    return answer


def _plainly(plain: PlainPipeline, histories: list[list[str]], rerank: bool) -> Method:
    return lambda request: plain.recommend(histories[request], 10, rerank=rerank)


if __name__ == "__main__":
    main()
