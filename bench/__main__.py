"""`python -m bench [TABLE ...] [--quick] [--only WORD]`: print tables, write them to bench/results."""

from __future__ import annotations

import argparse
import importlib
import sys

from bench import timing
from scratchgan import backend
from scratchgan.errors import UserError

TITLES = {
    "engine": "one op on 16 elements, forward + backward",
    "ops": "op, forward + backward",
    "steps": "training step",
    "metrics": "metric of 10,000 real and 10,000 generated samples",
}
OWN_TABLES = ["memory", "logging", "kernels", "static", "tune", "critic", "upscaling", "training"]  # measure(only), show, save
ON_DEVICES = {"kernels"}  # measure and save take the device too
LONG = {"critic", "upscaling", "training", "tune"}  # train for minutes to hours: only where they are named


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"{', '.join([*TITLES, *OWN_TABLES])} (default: all but {', '.join(sorted(LONG))})",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds; nothing is written to bench/results"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only rows whose name contains WORD; nothing is written"
    )
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="where `kernels` runs (default: cuda)"
    )
    args = parser.parse_args()
    known = [*TITLES, *OWN_TABLES]
    tables = args.tables or [table for table in known if table not in LONG]
    unknown = [t for t in tables if t not in known]
    if unknown:
        parser.error(f"table {unknown[0]!r} is unknown: expected some of {', '.join(known)}")
    timing.same_threads()
    for key, value in timing.environment().items():
        print(f"{key:>8}: {value}")
    if args.device == "cuda" and ON_DEVICES & {*tables} and not _gpu_there():
        tables = [table for table in tables if table not in ON_DEVICES]
        if not tables:
            parser.error("this machine has no CUDA device: --device cpu times the references instead")
        print("without a CUDA device (--device cpu times the references): left out", *ON_DEVICES)
    for table in tables:
        _run(table, args)
    return 0


def _gpu_there() -> bool:
    try:
        backend.module_of("cuda")
    except UserError:
        return False
    return True


def _run(table: str, args: argparse.Namespace) -> None:
    module = importlib.import_module(f"bench.{table}")
    on_device = {"device": args.device} if table in ON_DEVICES else {}
    if table in OWN_TABLES:
        rows = module.measure(args.only, **on_device)
        module.show(rows)

        def write(rows):
            return module.save(rows, **on_device)
    else:
        rows = module.measure(timing.QUICK if args.quick else timing.FULL, args.only)
        other = "published" if table == "metrics" else "torch"
        timing.show(TITLES[table], rows, other)

        def write(rows):
            return timing.save_rows(table, rows, other)

    if rows and not args.quick and not args.only:
        print(f"written to {write(rows)}")


if __name__ == "__main__":
    sys.exit(main())
