"""The command line: `scratchgan list | info | train | sample | upscale | project | evaluate | ...`.

What a command needs is imported when it runs, so that --help answers at once. Exit status: 0 done, 1 a check
failed, the training diverged or memory ran out, 2 bad input, 130 and 143 interrupted by Ctrl-C and SIGTERM.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from scratchgan.errors import UserError

STATUS_FAILED, STATUS_BAD_INPUT, STATUS_SIGNAL = 1, 2, 128      # a signal's number is added to the last

TRAIN_HELP = """\
Train a GAN and leave a run folder: config.json, metrics.jsonl, samples/step_*.png, samples.png, losses.png,
checkpoint/.

A checkpoint is written at the start, every --checkpoint-every steps, once a minute and at the end, also after
Ctrl-C and SIGTERM, which let the current step finish. --resume goes on from the last checkpoint to the same
bits as a run that was never interrupted. It keeps the run's own settings: --steps, --epochs, --sample-every,
--checkpoint-every, --log-every, --eval-every, --eval-metrics, --tensorboard, --device, --precision and --graph
may be given anew, others only with the value that the run has. A NaN or infinite loss ends the training with
exit status 1, the last checkpoint intact.

Every --log-every steps metrics.jsonl gets, besides losses, D's logits of examples, of held-out ones and of
samples, norms of gradients and updates, the diversity of samples. An alarm (mode collapse, D saturated, D
overfitting, exploding or vanishing gradients, oscillation) prints a line when it begins and is marked in
losses.png; alarms.jsonl lists them.

Settings of a GAN for --set, with their defaults: scratchgan list NAME."""

EVALUATE_HELP = """\
Print metrics of a run's samples, or of samples that another program made: an .npz with the array 'samples'
(or one array only; uint8, or floats in [0, 1], [-1, 1] or [0, 255]; labels optional) or a folder of pictures,
which are brought to the size of the data. Each figure is the mean and the standard deviation over --draws
draws of --n samples; beside it stands its floor, the same for real samples in their place. In each draw n
other real samples are put aside for the floor; the rest of the data, or of the part that a run trained on,
is the reference.

--per-class adds each figure for the samples of one class alone. Real samples have the labels of the data,
generated ones those that come with them; without any, the shipped digit classifier says which digit they are.
Value and floor of a class are of equally many samples, and a class that has too few gets '-' and the reason.

scratchgan list names the metrics."""

COMPARE_HELP = """\
Print the settings in which runs differ, their steps, time and last losses and the figures of their
evaluation.json where they have one, and draw their curves over one another."""

REPORT_HELP = """\
Write one HTML file that needs no network: the objective, the settings, curves with alarms, samples over time,
interpolations, nearest training neighbours, metrics with their floors; for points in the plane also D."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status. A user's mistake is one line on stderr."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        from scratchgan.checkpoint import Diverged
        print(f"scratchgan: error: {error}", file=sys.stderr)
        return STATUS_FAILED if isinstance(error, Diverged) else STATUS_BAD_INPUT
    except MemoryError as error:
        print(f"scratchgan: error: not enough memory ({error}): ask for less at once, "
              "such as a smaller --batch-size, --size or --n", file=sys.stderr)
        return STATUS_FAILED
    except KeyboardInterrupt:
        print("scratchgan: interrupted", file=sys.stderr)
        return STATUS_SIGNAL + 2
    except BrokenPipeError:         # of `scratchgan list | head`: nobody reads on, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        from scratchgan.settings import nearest
        raise UserError(f"{argv[0]!r} is no command{nearest(argv[0], COMMANDS)} "
                        f"(commands: {', '.join(COMMANDS)})")
    args = _parser().parse_args(argv)
    status = COMMANDS[args.command](args)
    sys.stdout.flush()              # here, where a broken pipe is caught
    return status


# Arguments

class _Parser(argparse.ArgumentParser):
    """Reports mistakes as every other one: a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """argparse's own "version" wants the text beforehand: looking it up takes longer than the rest of --help."""

    def __call__(self, parser, namespace, values, option_string=None) -> NoReturn:
        import scratchgan
        print(f"scratchgan {scratchgan.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scratchgan", description="Generative adversarial networks from scratch.",
                     allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS,
                        help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_list(commands)
    _add(commands, "info", "versions, device, threads, BLAS and GPU", "Show what scratchgan runs on.")
    _add_train(commands)
    _add_sample(commands)
    _add_upscale(commands)
    _add_project(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_check(commands)
    return parser


def _add(commands, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=description, allow_abbrev=False,
                               formatter_class=argparse.RawDescriptionHelpFormatter)


def _add_list(commands) -> None:
    parser = _add(commands, "list", "GANs and data sets, or the settings of one GAN",
                  "List the GANs with their papers and the named data with their shapes; of one GAN its\n"
                  "settings and their defaults.")
    parser.add_argument("name", nargs="?", metavar="GAN", help="a GAN whose settings to show")


def _add_train(commands) -> None:
    parser = _add(commands, "train", "train a GAN, or go on with a training", TRAIN_HELP)
    parser.add_argument("name", nargs="?", metavar="GAN", help="gan, dcgan, ...; scratchgan list shows all")
    parser.add_argument("--data", metavar="NAME|PATH",
                        help="named data, an IDX, CIFAR-10 or .npz file, or a folder of images")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_integer, metavar="N",
                        help="iterations of the paper's algorithm in all")
    length.add_argument("--epochs", type=_integer, metavar="N",
                        help="instead of --steps: how often to go through the data")
    parser.add_argument("--batch-size", type=_integer, metavar="N", help="samples in a batch")
    parser.add_argument("--lr", type=_number, metavar="X", help="learning rate")
    parser.add_argument("--size", type=_integer, metavar="N", help="edge of the images in pixels")
    parser.add_argument("--seed", type=_integer, metavar="N", help="seed of everything random (default 0)")
    parser.add_argument("--device", metavar="cpu|cuda", help="where to compute (default cpu)")
    parser.add_argument("--precision", metavar="NAME",
                        help="of products on a GPU: float32 (default), tf32, float16 or bfloat16; weights stay float32")
    parser.add_argument("--graph", action=argparse.BooleanOptionalAction, default=None,
                        help="run steps on a GPU as CUDA graphs (default: where that works)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="run folder (default runs/GAN-DATA-seedN)")
    parser.add_argument("--resume", nargs="?", const="", metavar="FOLDER",
                        help="go on with the run in FOLDER; without it, in --out or the default folder")
    parser.add_argument("--set", action="append", default=[], dest="pairs", metavar="KEY=VALUE",
                        help="any setting of the GAN")
    parser.add_argument("--sample-every", type=_integer, metavar="N",
                        help="steps between pictures; the first come sooner")
    parser.add_argument("--checkpoint-every", type=_integer, metavar="N",
                        help="steps between checkpoints, besides one a minute (default 0: only those)")
    parser.add_argument("--held-out", type=_number, metavar="X",
                        help="share of the data kept from the training (default 0.1; 0: none)")
    parser.add_argument("--log-every", type=_integer, metavar="N",
                        help="steps between diagnoses: D's logits, gradients, diversity, alarms (default 50; "
                             "0: none)")
    parser.add_argument("--eval-every", type=_integer, metavar="N",
                        help="steps between evaluations of the averaged generator (default 0: none)")
    parser.add_argument("--eval-metrics", type=_names, metavar="NAME,...",
                        help="what to evaluate (default: modes for a mixture, fid for images)")
    parser.add_argument("--tensorboard", action="store_true", default=None,
                        help="write event files to RUN/tensorboard/, too (to look at them: pip install "
                             "tensorboard)")


def _add_sample(commands) -> None:
    parser = _add(commands, "sample", "samples of a trained GAN, as a picture or as .npz",
                  "Draw samples from the averaged generator of a run. A .png shows a grid of images, or\n"
                  "points beside real ones; an .npz holds the array 'samples', float32, (N, C, H, W) or\n"
                  "(N, 2), in the range of the data, and 'labels' where the GAN is conditioned on classes,\n"
                  "which then come in turn, a column each.")
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--n", type=_integer, metavar="N",
                        help="number of samples (default about 64), with --interpolate of rows (8), with "
                             "--mix of latents each way (6)")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), metavar="FILE",
                        help=".png or .npz (default samples.png)")
    parser.add_argument("--seed", type=_integer, default=0, metavar="N", help="seed of the noise (default 0)")
    parser.add_argument("--class", type=_integer, dest="class_number", metavar="K",
                        help="samples of this class alone, of a GAN that is conditioned on classes")
    parser.add_argument("--truncation", type=_number, metavar="PSI",
                        help="of a StyleGAN: draw w nearer to its mean, 0 all the way, 1 not at all")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--interpolate", action="store_true",
                      help="rows that go from one latent to another")
    form.add_argument("--mix", action="store_true",
                      help="of a StyleGAN: coarse styles of the first column, fine ones of the first row")


def _add_upscale(commands) -> None:
    parser = _add(commands, "upscale", "a picture enlarged by a trained srgan",
                  "Enlarge a PNG, JPEG, WebP or BMP picture of any size by the averaged generator of a run of\n"
                  "srgan. Grey stays grey, also of 16 bits, an alpha channel is enlarged too, palettes and CMYK\n"
                  "become RGB; colours of 16 bits are read as 8.")
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the picture")
    parser.add_argument("--out", type=Path, default=Path("up.png"), metavar="FILE",
                        help=".png or .jpg (default up.png)")


def _add_project(commands) -> None:
    parser = _add(commands, "project", "a picture in the latent space of a trained stylegan2",
                  "Find the w of a run of stylegan2 from which its averaged generator makes a picture like the\n"
                  "given one (PNG, JPEG, WebP or BMP), by gradient descent on a distance of features. A .png\n"
                  "shows the picture beside its projection; an .npz holds w, noise_0 ..., image and target.")
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the picture")
    parser.add_argument("--out", type=Path, default=Path("projected.png"), metavar="FILE",
                        help=".png or .npz (default projected.png)")
    parser.add_argument("--steps", type=_integer, default=1000, metavar="N", help="of descent (default 1000)")
    parser.add_argument("--seed", type=_integer, default=0, metavar="N",
                        help="seed of the noise (default 0)")


def _add_evaluate(commands) -> None:
    parser = _add(commands, "evaluate", "metrics of a run's samples, or of another program's", EVALUATE_HELP)
    parser.add_argument("samples", type=Path, metavar="RUN|SAMPLES",
                        help="run folder, .npz of samples, or folder of pictures")
    parser.add_argument("--data", metavar="NAME|PATH", help="real samples (default: those of the run)")
    parser.add_argument("--held-out", metavar="NAME|PATH",
                        help="for samples from elsewhere: real samples that their GAN never saw")
    parser.add_argument("--metrics", type=_names, default=(), metavar="NAME,...",
                        help="what to compute (default: what suits the data)")
    parser.add_argument("--n", type=_integer, metavar="N",
                        help="samples in a draw (default: half of the data, at most 2500)")
    parser.add_argument("--draws", type=_integer, default=3, metavar="N", help="draws of samples (default 3)")
    parser.add_argument("--seed", type=_integer, default=0, metavar="N",
                        help="seed of noise, draws and metrics (default 0)")
    parser.add_argument("--features", metavar="NAME",
                        help="digits, random or pixels (default: what suits the data)")
    parser.add_argument("--per-class", action="store_true", help="each figure class by class, too")
    parser.add_argument("--size", type=_integer, metavar="N",
                        help="edge in pixels that real samples and others are brought to")
    parser.add_argument("--out", type=Path, metavar="FILE.json",
                        help="where to write (default: evaluation.json in the run folder)")


def _add_compare(commands) -> None:
    parser = _add(commands, "compare", "a table of runs, and their curves in one picture", COMPARE_HELP)
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="run folders, two or more")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), metavar="FILE.png|.html",
                        help="the curves, or an HTML page with table and curves (default compare.png)")


def _add_report(commands) -> None:
    parser = _add(commands, "report", "a run as one HTML file", REPORT_HELP)
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, metavar="FILE.html",
                        help="where to write (default: report.html in the run folder)")
    parser.add_argument("--evaluate", action="store_true",
                        help="compute the metrics first, as scratchgan evaluate RUN does")


def _add_check(commands) -> None:
    parser = _add(commands, "check", "compare gradients with difference quotients",
                  "Check the first and second derivatives of an op, or of a GAN's losses, against\n"
                  "difference quotients in float64, and print a table of errors.\n"
                  "Exit status 1 where one fails.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="an op or a GAN (default: all)")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _number(text: str) -> float:
    from math import isfinite
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


# Commands

def _list(args: argparse.Namespace) -> int:
    from scratchgan import inventory
    lines = inventory.overview() if args.name is None else inventory.settings_of(args.name)
    print("\n".join(lines))
    return 0


def _info(args: argparse.Namespace) -> int:
    from scratchgan import inventory
    print("\n".join(inventory.machine()))
    return 0


def _train(args: argparse.Namespace) -> int:
    from scratchgan import storage
    from scratchgan.request import folder_of, planned, resumed_changes
    from scratchgan.run import resume, start
    from scratchgan.train import train
    if args.resume is None:
        plan = planned(args)
        run = start(plan, args.out or plan.default_folder())
        with storage.owned(run.folder):
            return _ended(run, train(run))
    folder = folder_of(args)
    changes, config_changes = resumed_changes(args, folder)
    with storage.owned(folder):
        run = resume(folder, changes, config_changes)
        return _ended(run, train(run))


def _ended(run, signal: int | None) -> int:
    if signal is None:
        print(f"{run.plan.gan}: {run.step} steps done; "
              f"samples.png, losses.png and the checkpoint are in {run.folder}")
        return 0
    print(f"stopped after step {run.step}; go on with: scratchgan train --resume {run.folder}",
          file=sys.stderr)
    return STATUS_SIGNAL + signal


def _sample(args: argparse.Namespace) -> int:
    from scratchgan import sample
    count = sample.write(sample.Request(**{k: v for k, v in vars(args).items() if k != "command"}))
    print(f"{count} samples written to {args.out}")
    return 0


def _upscale(args: argparse.Namespace) -> int:
    from scratchgan import upscale
    before, after = upscale.upscale(args.folder, args.image, args.out)
    print(f"{args.image}: {before[0]} x {before[1]} to {after[0]} x {after[1]} pixels in {args.out}")
    return 0


def _project(args: argparse.Namespace) -> int:
    from scratchgan import project
    found = project.write(args.folder, args.image, args.out, args.steps, args.seed)
    print(f"{args.image}: projected to a feature distance of {found.distance:.4f} in {args.out}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from scratchgan import evaluate
    options = {k: v for k, v in vars(args).items() if k not in ("command", "out")}
    request = evaluate.Request(**options)
    out = evaluate.destination(request, args.out)
    document = evaluate.evaluate(request)
    if out is not None:
        evaluate.write(out, document)
    print("\n".join(evaluate.table(document)))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from scratchgan import compare
    print("\n".join(compare.compare(args.folders, args.out)))
    return 0


def _report(args: argparse.Namespace) -> int:
    from scratchgan import html_report
    out = args.out or args.folder / "report.html"
    html_report.write(args.folder, out, evaluate_first=args.evaluate)
    print(f"report written to {out}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from scratchgan import gradients
    table, passed = gradients.table(args.name)
    print("\n".join(table))
    return 0 if passed else STATUS_FAILED


COMMANDS = {"list": _list, "info": _info, "train": _train, "sample": _sample, "upscale": _upscale,
            "project": _project, "evaluate": _evaluate, "compare": _compare, "report": _report, "check": _check}


if __name__ == "__main__":
    sys.exit(main())
