"""`scratchgan report`: a run as one HTML file that needs nothing else, no network and no other file.

page.py     what the page says, section by section
figures.py  curves and the plane, as SVG
pictures.py pictures of samples, as data URIs
mathml.py   the objective, from the TeX in the GAN's file
page.html, page.css, page.js    the frame, its looks, and what the sliders do
"""
from __future__ import annotations

from pathlib import Path

from scratchgan import evaluate, storage
from scratchgan.errors import UserError
from scratchgan.html_report.page import page
from scratchgan.run import Run, read_plan

__all__ = ["write"]


def write(folder: Path, out: Path, evaluate_first: bool = False) -> None:
    """Write the report of the run in `folder` to the file `out`, whole or not at all; `evaluate_first` writes
    its evaluation.json before. Raises UserError for a folder that is no run or is damaged."""
    plan = read_plan(folder)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected a file that ends in .html")
    storage.check_parent(out)
    if evaluate_first:
        evaluate.write(folder / evaluate.FILE, evaluate.evaluate(evaluate.Request(folder)))
    run = Run(plan, folder)
    run.restore()
    storage.write_atomically(out, page(run).encode())
