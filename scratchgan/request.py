"""From the arguments of `scratchgan train` to the plan of a run, new or resumed."""
from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from scratchgan import gans, settings
from scratchgan.errors import UserError
from scratchgan.run import Plan, absolute_data, read_plan

CONFIG_OPTIONS = ("data", "steps", "batch_size", "lr", "size", "sample_every")     # settings of every GAN
FREE = ("steps", "sample_every")                    # of those, what a resumed run may change
FREE_OF_PLAN = ("device", "precision", "graph", "checkpoint_every", "log_every", "eval_every", "eval_metrics", "tensorboard")
PLAN_OPTIONS = ("seed", "held_out", *FREE_OF_PLAN)
DEFAULTS = {"seed": 0, "device": "cpu", "checkpoint_every": 0}      # of those that Plan has no default for


def planned(args: Namespace) -> Plan:
    """The plan that the arguments ask for, with the GAN's defaults for the rest. Raises UserError for what
    makes no sense."""
    if args.name is None:
        raise UserError(f"train: the name of a GAN is missing (there are: {', '.join(gans.names())})")
    config = gans.configure(args.name, **_config_values(args, gans.get(args.name).config_class))
    return Plan(gan=gans.canonical(args.name), epochs=args.epochs, config=config,
                **{**DEFAULTS, **_given(args, PLAN_OPTIONS)})


def folder_of(args: Namespace) -> Path:
    """The folder that `--resume` means: its own argument, else --out, else the default folder of such a
    run."""
    if args.resume and args.out:
        raise UserError(f"--resume {args.resume} --out {args.out}: expected one folder, not two")
    if args.resume and not Path(args.resume).is_dir() and args.name is None:
        raise UserError(f"--resume {args.resume}: no such folder (to go on in a run's default folder: "
                        "scratchgan train GAN --resume)")
    return Path(args.resume) if args.resume else args.out or planned(args).default_folder()


def resumed_changes(args: Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the arguments change of the plan in `folder`, and of its config. Raises UserError for what must
    stay as it is."""
    plan = read_plan(folder)
    config = _config_values(args, type(plan.config))
    changes = _given(args, FREE_OF_PLAN)
    if args.epochs is not None or args.steps is not None:
        changes["epochs"] = args.epochs
    fixed = {k: (v, getattr(plan.config, k)) for k, v in config.items() if k not in FREE}
    fixed |= {k: (v, getattr(plan, k)) for k, v in _given(args, ("seed", "held_out")).items()}
    if args.name is not None:
        fixed["GAN"] = (gans.canonical(args.name), plan.gan)
    for name, (asked, own) in fixed.items():
        if asked != own:
            raise UserError(f"{folder}: its run has {name} {own!r}, not {asked!r}; "
                            "a resumed run keeps its settings")
    return changes, {k: v for k, v in config.items() if k in FREE}


def _given(args: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of these names that the command line has."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _config_values(args: Namespace, config_class: type) -> dict[str, Any]:
    """The settings of the GAN that the arguments give, from options and from --set."""
    options = _given(args, CONFIG_OPTIONS)
    values = settings.parse_pairs(config_class, args.pairs)
    for key in options.keys() & values.keys():
        raise UserError(f"{key} is given twice, by --{key.replace('_', '-')} and by --set")
    values |= options
    if "data" in values:
        values["data"] = absolute_data(values["data"])
    return values
