"""Run by torchrun: the command 'train', of which the second rank is killed in the second epoch."""

import os
import signal
import sys

from twotower.cli import main
from twotower.training.collectives import Ranks

calls = 0
sum_gradients = Ranks.sum_gradients


def killing(self: Ranks, module: object) -> None:
    global calls
    calls += 1
    if self.rank == 1 and calls == int(os.environ.get("STEPS", "2")):
        os.kill(os.getpid(), signal.SIGKILL)
    sum_gradients(self, module)  # type: ignore[arg-type]


if __name__ == "__main__":
    Ranks.sum_gradients = killing  # type: ignore[method-assign,assignment]
    data, out = sys.argv[1:]
    train = ["train", "--data", data, "--text-encoder", "hashing", "--epochs", "3", "--seed", "1"]
    main([*train, "--out", out])
