"""Python imports this in every process of a run: it disturbs the steps of workers as a test says.

APDIST_TEST_FAULT is "KIND RANK STEP FILE". The fault happens once, in one worker: FILE is made when
it does, so that workers that start again find it, and tell when it was. `slow` is another matter:
all workers take their time as long as FILE is there; and `note` disturbs nothing.
"""

import importlib.util
import os
import signal
import sys
import time

CHUNK = 32 << 20
"""Bytes."""
SLOW_S = 1.5


def fail(*_):
    raise RuntimeError("made by a test")


def fail_in_the_network(stepper):
    stepper.network.register_forward_pre_hook(fail)


def fail_between_the_passes(stepper):
    fail()


def kill(stepper):
    os.kill(os.getpid(), signal.SIGKILL)


def halt(stepper):
    os.kill(os.getpid(), signal.SIGSTOP)


def eat(stepper):
    """Grow by some 600 MB/s, which who watches can see; end without an answer at last."""
    eaten = []
    while len(eaten) * CHUNK < 12 << 30:
        eaten.append(b"x" * CHUNK)
        time.sleep(0.05)
    raise RuntimeError("nobody minds how much memory this worker takes")


def eat_at_once(stepper):
    """Grow faster than anybody but the kernel can see."""
    eaten = []
    while len(eaten) * CHUNK < 12 << 30:
        eaten.append(b"x" * CHUNK)
    raise RuntimeError("nobody minds how much memory this worker takes")


def compute(stepper):
    """One product of matrices that takes longer than APDIST_TEST_LONG_S; how long: in FILE."""
    import torch

    least, took, size = float(os.environ["APDIST_TEST_LONG_S"]), 0.0, 4096
    while took < least:
        left = torch.ones(size, size)
        began = time.monotonic()
        left @ left
        took, size = time.monotonic() - began, size * 3 // 2
    with open(FILE, "w") as file:
        file.write(str(took))


def claimed() -> bool:
    """Whether it is this worker that makes the file."""
    try:
        os.close(os.open(FILE, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def disturb_stepping(module):
    undisturbed = module.Stepper.one_step

    def one_step(self, step, *more):
        if KIND == "slow":
            if step >= STEP and os.path.exists(FILE):
                time.sleep(SLOW_S)
        elif KIND in globals() and step == STEP and self.workers.rank == RANK and claimed():
            globals()[KIND](self)
        return undisturbed(self, step, *more)

    module.Stepper.one_step = one_step


def disturb_measuring(module):
    undisturbed = module.Measuring._measure

    def measure(self, split, step):
        if KIND == "measure" and step == STEP and self.workers.rank == RANK and claimed():
            time.sleep(3)
        return undisturbed(self, split, step)

    module.Measuring._measure = measure


def note_time(module, name):
    """Have FILE tell when a function of a module was called."""
    undisturbed = getattr(module, name)

    def noted(*given, **more):
        with open(FILE, "a") as file:
            file.write(f"{name} {time.time()}\n")
        return undisturbed(*given, **more)

    if KIND == "note":
        setattr(module, name, noted)


DISTURB = {
    "apdist.training.stepping": disturb_stepping,
    "apdist.training.measuring": disturb_measuring,
    "apdist.training.cluster.launch": lambda module: note_time(module, "ray_cluster"),
    "apdist.training.worker": lambda module: note_time(module, "train"),
}


class Finder:
    """Finds the modules as ever, and disturbs them when they have been executed."""

    def find_spec(self, name, path=None, target=None):
        if name not in DISTURB:
            return None
        disturb = DISTURB.pop(name)
        spec = importlib.util.find_spec(name)
        undisturbed = spec.loader.exec_module

        def exec_module(module):
            undisturbed(module)
            disturb(module)

        spec.loader.exec_module = exec_module
        return spec


if "APDIST_TEST_FAULT" in os.environ:
    KIND, *_where, FILE = os.environ["APDIST_TEST_FAULT"].split(" ", 3)
    RANK, STEP = map(int, _where)
    sys.meta_path.insert(0, Finder())
