"""The TeX in which the GANs write their objectives, as MathML, which browsers typeset by themselves.

A small part of TeX: letters, numbers, operators, groups { }, scripts _ and ^, and the commands in the tables
below. Two letters in a row are two factors; words are written \\text{...}.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|\S")
IDENTIFIERS = {"epsilon": "ε", "lambda": "λ", "theta": "θ", "phi": "φ", "gamma": "γ", "mu": "μ",
               "sigma": "σ"}
OPERATORS = {"sim": "∼", "in": "∈", "nabla": "∇", "cdot": "⋅", "le": "≤", "ge": "≥", "to": "→",
             "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|"}
FUNCTIONS = ("log", "exp", "min", "max", "sup")
BELOW = ("min", "max", "sup")       # their subscripts stand below them
ACCENTS = {"hat": "^", "tilde": "~", "bar": "¯"}
FACES = {"mathbb": "double-struck", "mathcal": "script"}
LETTERS = {"double-struck": {"E": "𝔼", "P": "ℙ", "R": "ℝ"}, "script": {"L": "ℒ", "N": "𝒩"}}


def math(tex: str) -> str:
    """A displayed formula as a <math> element. Raises ValueError for TeX beyond the above."""
    tokens = list(TOKEN.findall(tex))
    parser = _Parser(tokens, tex)
    row = "".join(parser.row())
    if parser.rest:
        raise ValueError(f"math: {tex!r} has a }} too many")
    return f'<math display="block" alttext="{escape(tex)}"><mrow>{row}</mrow></math>'


class _Parser:
    """Reads tokens from the left; each method answers MathML for what it has read."""

    def __init__(self, tokens: list[str], tex: str):
        self.rest, self.tex = tokens[::-1], tex

    def row(self) -> Iterator[str]:
        """Elements up to a } that nothing here has opened, or to the end."""
        while self.rest and self.rest[-1] != "}":
            yield self.scripted()

    def scripted(self) -> str:
        """One element with the scripts that follow it."""
        name = self.rest[-1].lstrip("\\")
        base, scripts = self.element(), {}
        while self.rest and self.rest[-1] in "_^":
            mark = self.rest.pop()
            if mark in scripts:
                raise ValueError(f"math: {self.tex!r} has two {mark} on one base")
            scripts[mark] = self.element()
        if not scripts:
            return base
        if name in BELOW and scripts.keys() == {"_"}:
            return f"<munder>{base}{scripts['_']}</munder>"
        tag = {("_",): "msub", ("^",): "msup"}.get(tuple(scripts), "msubsup")
        return f"<{tag}>{base}{''.join(scripts[mark] for mark in '_^' if mark in scripts)}</{tag}>"

    def element(self) -> str:
        """A group or a single token, without scripts."""
        if not self.rest:
            raise ValueError(f"math: {self.tex!r} ends too early")
        token = self.rest.pop()
        if token == "{":
            return f"<mrow>{self.closed()}</mrow>"
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        return f"<mi>{token}</mi>" if token.isalpha() else _operator(token)

    def closed(self) -> str:
        """The rest of a group, whose { has been read."""
        row = "".join(self.row())
        if not self.rest:
            raise ValueError(f"math: {self.tex!r} lacks a }}")
        self.rest.pop()
        return row

    def command(self, name: str) -> str:
        """What a command makes of the elements that it takes."""
        if name in IDENTIFIERS:
            return f"<mi>{IDENTIFIERS[name]}</mi>"
        if name in OPERATORS:
            return _operator(OPERATORS[name])
        if name in FUNCTIONS:
            return f"<mi>{name}</mi><mo>&#x2061;</mo>" if name not in BELOW else f"<mo>{name}</mo>"
        if name in ACCENTS:
            return f'<mover accent="true">{self.element()}<mo>{ACCENTS[name]}</mo></mover>'
        if name == "frac":
            return f"<mfrac>{self.element()}{self.element()}</mfrac>"
        if name in ("text", *FACES):
            return self.letters(name)
        if name in (",", ";", "quad"):
            return f'<mspace width="{ {",": "0.17em", ";": "0.28em", "quad": "1em"}[name] }"/>'
        raise ValueError(f"math: {self.tex!r} has \\{name}, which is not known here")

    def letters(self, command: str) -> str:
        """The letters of a group as one word, or in another face."""
        if not self.rest or self.rest.pop() != "{" or "}" not in self.rest:
            raise ValueError(f"math: {self.tex!r} has \\{command} without a group")
        word = ""
        while (token := self.rest.pop()) != "}":
            word += token
        if command == "text":
            return f"<mtext>{escape(word)}</mtext>"
        return f"<mi>{''.join(LETTERS[FACES[command]].get(letter, letter) for letter in word)}</mi>"


def _operator(token: str) -> str:
    """Brackets keep their size: they would grow with everything in their row, limits below `min` included."""
    kept = ' stretchy="false"' if token in "()[]|‖" else ""
    return f"<mo{kept}>{'−' if token == '-' else escape(token)}</mo>"
