"""`python -m bench [TABLE ...] [--quick] [--only WORD]`: print tables, write them to bench/results."""

from __future__ import annotations

import argparse
import importlib
import sys

from bench import cuda, readme, timing
from scratchgan import backend
from scratchgan.errors import UserError

TITLES = {
    "engine": "one op on 16 elements, forward + backward",
    "overhead": "the same op, and its NumPy calls by hand",
    "ops": "op, forward + backward",
    "steps": "training step",
    "metrics": "metric of 10,000 real and 10,000 generated samples",
}
OTHERS = {"overhead": "by hand", "metrics": "published"}  # what is beside ours, where it isn't PyTorch
OWN_TABLES = ["memory", "logging", "kernels", "static", "tune", "critic", "upscaling", "training"]  # measure(only), show, save
DEVICES = {"kernels": "cuda", "steps": "cpu"}  # where these run if --device doesn't say
ONLY_NAMED = {"static", "tune", "critic", "upscaling", "training"}  # write baselines, or run for minutes to hours


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"{', '.join([*TITLES, *OWN_TABLES])} (default: all but {', '.join(sorted(ONLY_NAMED))})",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds; nothing is written to bench/results"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only rows whose name contains WORD; nothing is written"
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], help="of the tables kernels (default: cuda) and steps (default: cpu)"
    )
    args = parser.parse_args()
    known = [*TITLES, *OWN_TABLES]
    tables = args.tables or [table for table in known if table not in ONLY_NAMED]
    unknown = [t for t in tables if t not in known]
    if unknown:
        parser.error(f"table {unknown[0]!r} is unknown: expected some of {', '.join(known)}")
    timing.same_threads()
    for key, value in timing.environment().items():
        print(f"{key:>8}: {value}")
    for table in tables:
        if device_of(table, args) == "cuda" and not _gpu_there():
            message = f"{table}: this machine has no CUDA device; --device cpu runs it here"
            if args.tables:
                parser.error(message)
            print(message)
        else:
            _run(table, args)
    return 0


def device_of(table: str, args: argparse.Namespace) -> str:
    """Where a table runs."""
    if table in DEVICES:
        return args.device or DEVICES[table]
    return "cuda" if table == "tune" else "cpu"


def _gpu_there() -> bool:
    try:
        backend.module_of("cuda")
    except UserError:
        return False
    return True


def _run(table: str, args: argparse.Namespace) -> None:
    module = importlib.import_module(f"bench.{table}")
    device = {"device": device_of(table, args)} if table in DEVICES else {}
    if table in OWN_TABLES:
        rows = module.measure(args.only, **device)
        module.show(rows)

        def write(rows):
            return module.save(rows, **device)
    else:
        rows = module.measure(timing.QUICK if args.quick else timing.FULL, args.only, **device)
        other = OTHERS.get(table, "torch")
        timing.show(TITLES[table], rows, other)

        def write(rows):
            if "cuda" in device.values():
                return timing.save_rows(f"{table}_cuda", rows, other, cuda.environment())
            path = timing.save_rows(table, rows, other)
            if table == "steps":
                readme.put_steps()
            return path

    if rows and not args.quick and not args.only:
        print(f"written to {write(rows)}")


if __name__ == "__main__":
    sys.exit(main())
