"""Plant errors one by one and see the tests find them: `python tests/planted.py` writes
tests/planted_results.md.

Each error is a replacement of one piece of source text, which must occur exactly once, in a copy of the tree
in a temporary folder. The named tests run there; an error counts as found when they fail. Before that the
same tests must pass on the untouched copy.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("planted_results.md")
TIMEOUT = 600


@dataclass(frozen=True)
class Error:
    """What is wrong, in which file, the text that is replaced, and the tests (pytest's arguments) that should
    notice.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def ops(word: str) -> tuple[str, ...]:
    """The cases of one op, in every test of tests/test_ops.py."""
    return "tests/test_ops.py", "-k", word


ELEMENTWISE, REDUCE, SHAPE = (f"scratchgan/ops/{name}.py" for name in ("elementwise", "reduce", "shape"))
GAN, WGAN_GP, OPTIM_FILE = "scratchgan/gans/gan.py", "scratchgan/gans/wgan_gp.py", "scratchgan/optim.py"
ENGINE, OPTIM, STEPS = ("tests/test_engine.py",), ("tests/test_optim.py",), ("tests/test_training_steps.py",)
FORMULAS = ("tests/test_formulas.py",)
ARENAS, HALVES, TAPE = ("tests/kernels/test_arenas.py",), ("tests/test_precision.py",), ("tests/test_tape.py",)

ERRORS = [
    # Derivatives of ops
    Error(
        "tanh: derivative 1 - out instead of 1 - out^2",
        ELEMENTWISE,
        "times(lambda out: 1 - out * out)",
        "times(lambda out: 1 - out)",
        ops("tanh"),
    ),
    Error(
        "sigmoid: derivative out (1 + out)",
        ELEMENTWISE,
        "times(lambda out: out * (1 - out))",
        "times(lambda out: out * (1 + out))",
        ops("sigmoid"),
    ),
    Error(
        "logsigmoid: derivative sigmoid(x) instead of sigmoid(-x)",
        ELEMENTWISE,
        "times(lambda x: sigmoid(-x))",
        "times(lambda x: sigmoid(x))",
        ops("logsigmoid"),
    ),
    Error(
        "leaky_relu: no slope below 0 in backward",
        ELEMENTWISE,
        "step(out, low=slope)",
        "step(out, low=0)",
        ops("leaky_relu"),
    ),
    Error(
        "div: sign of the denominator's gradient", ELEMENTWISE, "-g * (out / b)", "g * (out / b)", ops("div")
    ),
    Error(
        "pow: exponent not lowered in the derivative",
        ELEMENTWISE,
        "p * power_of(x, p=p - 1)",
        "p * power_of(x, p=p)",
        ops("pow"),
    ),
    Error(
        "maximum: ties give each side everything",
        ELEMENTWISE,
        "0.5 * g * tied",
        "g * tied",
        ops("maximum"),
    ),
    Error(
        "clamp: no gradient at the only bound", ELEMENTWISE, "g * (x >= low)", "g * (x > low)", ops("clamp")
    ),
    Error("clamp: no gradient at the upper of two bounds", ELEMENTWISE, "x <= high))", "x < high))", ops("clamp")),
    Error(
        "var: correction forgotten",
        REDUCE,
        "_count(shape, axis) - correction)",
        "_count(shape, axis))",
        ops("var"),
    ),
    Error(
        "softmax: sign of the mean that is taken off",
        "kernels/softmax.py",
        "m.subtract(g, dx.sum(",
        "m.add(g, dx.sum(",
        ops("softmax"),
    ),
    Error(
        "amax: ties are not shared",
        REDUCE,
        "shares = chosen / sum(chosen, axis=axis, keepdims=True)",
        "shares = chosen",
        ops("amax"),
    ),
    Error(
        "permute: backward permutes the same way", SHAPE, "axes=inverse(axes)", "axes=axes", ops("permute")
    ),
    Error(
        "indexing: repeated places overwrite one another",
        SHAPE,
        "if not _may_repeat(index):",
        "if True:",
        ops("getitem"),
    ),
    Error("stack: every input gets the first part", SHAPE, "* axis, i))", "* axis, 0))", ops("stack")),
    Error(
        "conv: sign of the second derivative in w",
        "scratchgan/ops/conv.py",
        "return conv_dx(y, g, x_shape=shape",
        "return -conv_dx(y, g, x_shape=shape",
        ops("conv2d"),
    ),
    Error(
        "conv: adjoint in x shifted by the padding's sign",
        "kernels/transposed.py",
        "begin = stride * start + phase - padding",
        "begin = stride * start + phase",
        ("tests/test_kernels_conv.py",),
    ),
    Error(
        "conv: kernel not turned in the adjoint at stride 1",
        "kernels/conv.py",
        "w[:, :, ::-1, ::-1]",
        "w[:, :, :, ::-1]",
        ("tests/test_kernels_conv.py",),
    ),
    Error(
        "upfirdn2d: filter not reversed in backward",
        "scratchgan/ops/resample.py",
        "tuple(row[::-1] for row in f[::-1])",
        "f",
        ops("upfirdn2d"),
    ),
    Error(
        "pixel shuffle: rows and columns of a block exchanged",
        "kernels/pixel_shuffle.py",
        "n + 1, n + 3, n, n + 2",
        "n + 3, n + 1, n, n + 2",
        ops("pixel_shuffle"),
    ),
    Error(
        "embedding: rows of one place added but for the last round",
        "scratchgan/ops/shape.py",
        "for one in others:",
        "for one in others[:-1]:",
        ops("embedding"),
    ),
    Error(
        "reflect: backward puts borders in place of what they repeat",
        "scratchgan/ops/shape.py",
        "part[source] += added",
        "part[source] = added",
        ops("pad"),
    ),
    Error(
        "batch norm: term through the variance scaled wrongly",
        "kernels/norm.py",
        "of_x = -rstd * rstd * mean_gwh",
        "of_x = -rstd * mean_gwh",
        ("tests/test_kernels_blocks.py",),
    ),
    Error(
        "batch norm: term through the mean left out on devices",
        "kernels/norm.py",
        "gw - _mean(gw, axes)",
        "gw",
        ops("batch_norm"),
    ),
    Error(
        "batch norm: spec normalises without eps",
        "scratchgan/ops/norm.py",
        "rsqrt(variance + eps)",
        "rsqrt(variance)",
        ops("batch_norm"),
    ),
    # Losses
    Error(
        "bce with logits: the mean's gradient is the sum's",
        "scratchgan/ops/loss.py",
        "g / size if reduction",
        "g if reduction",
        ops("binary_cross_entropy_with_logits"),
    ),
    Error(
        "cross entropy: gradient of one class left out",
        "scratchgan/ops/loss.py",
        "dx[_places(dx, target)] -= scale",
        "dx[_places(dx, target)] -= 0",
        ops("cross_entropy"),
    ),
    Error(
        "gan: D rewarded for taking samples for real",
        "kernels/losses.py",
        "loss_fake, dfake = logistic(wide(fake))",
        "loss_fake, dfake = logistic(-wide(fake))",
        FORMULAS,
    ),
    Error(
        "gan: one step of D whatever k is", GAN, "for _ in range(self.config.k):", "for _ in range(1):", STEPS
    ),
    Error(
        "wgan_gp: norm over the batch too",
        "kernels/gradient_norms.py",
        "(g * g).sum(axis=tuple(range(1, g.ndim)))",
        "(g * g).sum()",
        STEPS,
    ),
    Error(
        "wgan_gp: one epsilon per pixel",
        WGAN_GP,
        "random((len(x), *[1] * (x.ndim - 1)))",
        "random(x.shape)",
        STEPS,
    ),
    Error(
        "wgan_gp: penalty does not train the critic", WGAN_GP, "x_hat, create_graph=True)", "x_hat)", STEPS
    ),
    Error(
        "wgan_gp: gradients pulled to 0 instead of 1",
        "kernels/gradient_norms.py",
        "mean(m.square(norm - 1))",
        "mean(m.square(norm))",
        FORMULAS,
    ),
    Error(
        "dcgan: slope 0.1 in D",
        "scratchgan/nets/dcgan.py",
        "nn.Conv2d(shape[0], width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)",
        "nn.Conv2d(shape[0], width, 4, stride=2, padding=1), nn.LeakyReLU(0.1)",
        STEPS,
    ),
    # Optimisers
    Error(
        "adam: no root in the correction of v",
        OPTIM_FILE,
        "root_correction = (1 - beta2**step) ** 0.5",
        "root_correction = 1 - beta2**step",
        OPTIM,
    ),
    Error(
        "adam: eps under the root's correction",
        OPTIM_FILE,
        "            t /= root_correction\n            t += eps\n",
        "            t += eps\n            t /= root_correction\n",
        OPTIM,
    ),
    Error(
        "sgd: dampening from the first step on",
        OPTIM_FILE,
        "                b[...] = g\n",
        "                b[...] = g * (1 - dampening)\n",
        OPTIM,
    ),
    Error("weight decay: sign", OPTIM_FILE, "g = g + weight_decay * p", "g = g - weight_decay * p", OPTIM),
    Error("ema: weights of old and new exchanged", OPTIM_FILE, "asarray(1 - (min(", "asarray((min(", STEPS),
    Error(
        "ema: running statistics not followed",
        OPTIM_FILE,
        "            overwrite(e, b._array)\n",
        "            pass\n",
        STEPS,
    ),
    Error(
        "arena: Adam's corrections exchanged",
        OPTIM_FILE,
        "return step, 1 - beta1**step, (1 - beta2**step) ** 0.5",
        "return step, 1 - beta2**step, (1 - beta2**step) ** 0.5",
        ARENAS,
    ),
    Error("arena: loaded averages not taken over", OPTIM_FILE, "if name not in arenas or not arenas[name].holds(arrays):",
          "if name not in arenas:", ARENAS),
    Error("arena: the average of weights follows those of before", OPTIM_FILE, "gathered(weights, self._arenas[1])",
          "(self._arenas[1] or gathered(weights, None))", ARENAS),
    # Steps repeated
    Error("tape: the optimiser's step number is drawn but once", OPTIM_FILE,
          "clock = fed(lambda: self.clock(group, self._count(params, names)), p, np.float64)",
          "clock = xp(p).asarray(self.clock(group, self._count(params, names)))", TAPE),
    Error("tape: draws go to new memory", "scratchgan/tape.py",
          "array[...] = xp(array).asarray(drawn, dtype=array.dtype)",
          "array = xp(array).asarray(drawn, dtype=array.dtype)", TAPE),
    Error("tape: a batch is not copied", "scratchgan/tape.py",
          "self.arrays.append(xp(like).array(draw(), dtype=dtype))",
          "self.arrays.append(xp(like).asarray(draw(), dtype=dtype))", TAPE),
    Error("tape: dropout keeps its mask", "scratchgan/functional/norm.py",
          "return input * fed(mask, _array(input))", "return input * xp(_array(input)).asarray(mask())", TAPE),
    Error("graph: launched from another state", "scratchgan/graph.py",
          "            put(before, state)\n", "", TAPE),
    Error("graph: a graph that computes something else is used", "scratchgan/graph.py",
          "if not bool(xp(a).all(off <= CLOSE * scale)):", "if False:", TAPE),
    Error("graph: gradients of an earlier step", "scratchgan/graph.py",
          "        self.launch()\n        hand_back(self.gradients)", "        self.launch()", TAPE),
    # Half precision
    Error("half precision: gradients leave float16 unscaled", "scratchgan/autograd.py",
          "return c.astype(before.dtype) / scale", "return c.astype(before.dtype)", HALVES),
    Error("half precision: gradients enter float16 unscaled", "scratchgan/autograd.py",
          "return c * scale if before.dtype == HALF else c", "return c", HALVES),
    Error("half precision: gradients to be differentiated are scaled", "scratchgan/autograd.py",
          "None if create_graph else precision.factor(seeds[0][1])", "precision.factor(np.ones(1))", HALVES),
    Error("half precision: infinite gradients update", "scratchgan/optim.py",
          "elif found is None or not found:", "else:", HALVES),
    Error("half precision: updates that were left out are counted", "scratchgan/optim.py",
          "params if names and found else ()", "()", TAPE),
    # Convolution's ways
    Error("conv: neighbouring pixels' kernels not moved", "kernels/tiles.py",
          "wide[t, ..., right * t:right * t + S] = w", "wide[t, ..., :S] = w", ("tests/test_kernels_conv.py",)),
    Error("conv: weights' gradient of the first pixel only", "kernels/tiles.py",
          "for t in range(T))", "for t in range(1))", ("tests/test_kernels_conv.py",)),
    Error("conv: a phase without a last tap takes the first ones", "kernels/transposed.py",
          "[..., below.shape[-1] - matrix.shape[1]:]", "[..., :matrix.shape[1]]", ("tests/test_kernels_conv.py",)),
    Error("conv: a sign in Winograd's transform of x", "kernels/winograd.py",
          "B_T=((1, 0, -1, 0), (0, 1, 1, 0)", "B_T=((1, 0, -1, 0), (0, 1, -1, 0)", ("tests/test_kernels_conv.py",)),
    Error("conv: Winograd's tiles do not add up where they overlap", "kernels/winograd.py",
          "_signed_sum(place, sign, term, place)", "pass", ("tests/test_kernels_conv.py",)),
    Error("modulated conv: noise's strength learns twice as fast", "kernels/modulated.py",
          "return (noise @ wide(a)", "return (2 * noise @ wide(a)", ops("modulated_conv")),
    # Engine
    Error(
        "engine: a second path overwrites the first",
        "scratchgan/autograd.py",
        "gs[p] = gs[p] + c if p in gs else c",
        "gs[p] = c",
        ENGINE,
    ),
    Error(
        "engine: writes between forward and backward go unseen",
        "scratchgan/autograd.py",
        "if exposed or writes.last > n.id:",
        "if False:",
        ENGINE,
    ),
    Error(
        "engine: fused partials count other paths too",
        "scratchgan/autograd.py",
        "alias(a) if w else a",
        "a",
        ENGINE,
    ),
    Error(
        "engine: memory kept until backward ends",
        "scratchgan/autograd.py",
        "n.saved = FREED",
        "n.saved = n.saved",
        ENGINE,
    ),
    Error(
        "engine: leaves share the memory of gradients",
        "scratchgan/autograd.py",
        "g.copy() if shared else g",
        "g",
        ENGINE,
    ),
]


def copied(folder: Path) -> Path:
    """A copy of the tree in which `scratchgan.kernels` lies inside the package, so that nothing installed is
    imported instead.
    """
    tree = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("scratchgan", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    shutil.copytree(ROOT / "kernels", tree / "scratchgan" / "kernels", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tree)
    where = subprocess.run(
        [
            sys.executable,
            "-c",
            "import scratchgan, scratchgan.kernels as k; print(scratchgan.__file__, k.__file__)",
        ],
        cwd=tree,
        env=environment(tree),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if not all(Path(path).is_relative_to(tree) for path in where):
        raise RuntimeError(f"the copy is not what would be tested: {where}")
    return tree


def environment(tree: Path) -> dict[str, str]:
    """The copy is what is imported, and several jobs do not fight for the cores."""
    threads = {"OMP_NUM_THREADS": "1", "SCRATCHGAN_NUM_THREADS": "2"}
    return {**os.environ, **threads, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def place(tree: Path, file: str) -> Path:
    return tree / ("scratchgan/" + file if file.startswith("kernels/") else file)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests pass, and the first that fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode not in (0, 1):  # a test run that broke off proves nothing
        raise RuntimeError(
            f"pytest {' '.join(tests)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return done.returncode == 0, failed.group(1) if failed else ""


def together(selections: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The same tests in fewer runs: all words that are asked of one file at once."""
    words: dict[str, list[str]] = {}
    for file, *word in sorted(selections):
        words.setdefault(file, []).extend(word[1:])
    return [(file, "-k", " or ".join(asked)) if asked else (file,) for file, asked in words.items()]


def planted(tree: Path, error: Error) -> tuple[bool, str]:
    """Whether the tests find the error, and the first that does."""
    path = place(tree, error.file)
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(error.old, error.new), encoding="utf-8")
    try:
        passed, first = run_tests(tree, error.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    return not passed, first


def check_texts(tree: Path, errors: list[Error]) -> None:
    """Every text that is going to be replaced is there exactly once."""
    for error in errors:
        count = place(tree, error.file).read_text(encoding="utf-8").count(error.old)
        if count != 1:
            raise ValueError(f"{error.what}: {error.old!r} occurs {count} times in {error.file}, expected once")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def versions() -> str:
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "scratchgan", "kernels")
    return f"commit {commit}{' with changes' if changed else ''}, Python {platform.python_version()}"


def report(lines: list[tuple[Error, bool, str]], version: str) -> str:
    found = sum(ok for _, ok, _ in lines)
    rows = [
        f"| {e.what} | `{e.file}` | {'found' if ok else '**missed**'} | `{first.replace('|', '/')}` |"
        for e, ok, first in lines
    ]
    return "\n".join(
        [
            "# Planted errors",
            "",
            f"{found} of {len(lines)} found ({version}). Written by `python tests/planted.py`.",
            "",
            "| error | in | tests | first test that fails |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def check_untouched(tree: Path, errors: list[Error]) -> None:
    """All tests that are going to be run pass as long as nothing is planted."""
    for tests in together({e.tests for e in errors}):
        passed, first = run_tests(tree, tests)
        print(f"untouched  {' '.join(tests)[:100]}", flush=True)
        if not passed:
            raise RuntimeError(f"without any error planted, {first} fails already ({' '.join(tests)})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="errors with WORD in what; writes no results")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time, each in its own copy")
    args = parser.parse_args()
    errors = [e for e in ERRORS if args.only in e.what]
    version = versions()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        trees: Queue[Path] = Queue()
        for i in range(args.jobs):
            trees.put(copied(Path(folder) / str(i)))
        check_texts(trees.queue[0], errors)
        check_untouched(trees.queue[0], errors)

        def find(error: Error) -> tuple[Error, bool, str]:
            tree = trees.get()
            try:
                found, first = planted(tree, error)
            finally:
                trees.put(tree)
            print(f"{'found ' if found else 'MISSED'}  {error.what:<70} {first}", flush=True)
            return error, found, first

        lines = list(pool.map(find, errors))
    if not args.only:
        RESULTS.write_text(report(lines, version), encoding="utf-8")
    return 0 if all(ok for _, ok, _ in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
