"""The commands that must run in an environment of each extra, and a runner for them.

``python commands.py`` reads a JSON list of command lines from its standard input, runs each, and
prints one JSON line for each: the command line, its exit status, and what it wrote to stderr. It
needs nothing but the package, so that it runs in any environment.
"""

import contextlib
import importlib
import io
import json
import subprocess
import sys
import time
import urllib.request

NAMES = (
    "run", "download", "prepare", "hold-out", "embed", "train", "evaluate", "ablate", "tune",
    "report", "index", "recommend", "info", "serve", "key", "events", "forget", "backup",
    "restore", "retrain", "rollback", "live", "demo", "bench", "bench index",
)  # fmt: skip
HELP = tuple(f"{name} --help".lstrip() for name in ("", *NAMES))

_RECOMMEND = (
    "recommend --bundle {bundle} --user u01 -k 3",
    "recommend --bundle {bundle} --history i01 i03 -k 3 --rerank --json {out}/one.json",
    "recommend --bundle {bundle} --batch all -k 3 --out {out}/all.parquet",
)
_PREPARE = "prepare {shop} --k-core 0 --out {out}/data"
_INFO = ("info {data}", "info {bundle}")

COMMANDS = {
    "": (
        *HELP, "--version", _PREPARE, "hold-out --data {out}/data --out {out}/cold",
        *_INFO, *_RECOMMEND,
    ),
    "serve": (
        _PREPARE, *_INFO, *_RECOMMEND,
        "recommend --bundle {bundle} --text dragon -k 3",
        "key shop --scope write --keys {out}/keys",
        "events --bundle {bundle} --state sqlite:///{out}/state.sqlite3 --out {out}/joined",
        "forget u01 --state sqlite:///{out}/state.sqlite3",
        "live --bundle {bundle} --state sqlite:///{out}/state.sqlite3",
        "backup --state sqlite:///{out}/state.sqlite3 --out {out}/copy.sqlite3",
        "restore {out}/copy.sqlite3 --state sqlite:///{out}/state.sqlite3",
        "serve --bundle {bundle} --port 0 --state sqlite:///{out}/state.sqlite3",
        "serve --bundle {bundle} --port 0 --state sqlite:///{out}/state.sqlite3 --processes 2",
    ),
    "train": (
        _PREPARE,
        "train --data {out}/data --model mf --epochs 1 --out {out}/mf",
        "train --data {out}/data --model v4 --text-encoder hashing --epochs 1 --out {out}/v4",
        "evaluate --data {out}/data {out}/mf {out}/v4 --text-encoder hashing "
        "--baseline popularity --baseline ease --rerank --json {out}/results.json",
        "index --data {out}/data {out}/v4 --comparison {out}/mf --out {out}/bundle",
        "info {out}/v4",
        "ablate --dataset {out}/data --variant popularity --jobs 1 --out {out}/study",
        "run --dataset {shop} --k-core 0 --model mf --text-encoder hashing --out {out}/run",
    ),
    "train,text": (
        "train --data {data} --model v5 --text-encoder minilm --epochs 1 --out {out}/v5",
        "index --data {data} {out}/v5 --out {out}/bundle",
    ),
    "report": (
        "report {results} --out {out}/report.html --picture {out}/picture.svg",
    ),
    "train,tune": (
        "tune mf --dataset {data} --trials 1 --epochs 1 --out {out}/tuned",
    ),
    "train,track": (
        "train --data {data} --model mf --epochs 1 --out {out}/models/mf --track",
    ),
    "bench": (
        "bench index --bundle {bundle} --k 5 --queries 3 --rounds 1 --json {out}/index.json",
    ),
    "demo": ("import twotower.demo.app", "demo --bundle {bundle} --port {port}"),
}  # fmt: skip
"""Command lines by the extras that they need, as the documents name them; ``""`` is none.

What runs with none runs with more: an extra adds packages, and takes none away.
"""

READY_S = 60


def run(line: str) -> tuple[int, str]:
    """Exit status and stderr of one command line, run in this process but for servers."""
    arguments = line.split()
    if arguments[:1] in (["serve"], ["demo"]) and "--help" not in arguments:
        return _serve(arguments)
    if arguments[0] == "import":
        importlib.import_module(arguments[1])
        return 0, ""
    from twotower.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            main(arguments)
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception as error:  # what a command must not end with
            status, _ = 1, print(repr(error), file=said)
    return status, said.getvalue()


def _serve(arguments: list[str]) -> tuple[int, str]:
    """Start a server, wait until it answers, end it, and take its exit status."""
    code = "import sys; from twotower.cli import main; main(sys.argv[1:])"
    server = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = []
    if arguments[0] == "serve":
        for text in server.stdout:
            said.append(text)
            if "listening" in text:
                break
        else:
            return server.wait(), "".join(said)
    else:
        port, until = arguments[arguments.index("--port") + 1], time.monotonic() + READY_S
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2)
                break
            time.sleep(0.1)
    if server.poll() is None:
        server.terminate()
    rest, _ = server.communicate(timeout=READY_S)
    return max(server.returncode, 0), "".join([*said, rest])


if __name__ == "__main__":
    for line in json.load(sys.stdin):
        status, said = run(line)
        print(json.dumps([line, status, said]), flush=True)
