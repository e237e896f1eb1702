"""Which of OpenBLAS's kernels NumPy is given: chosen by processor, before NumPy, and never over the user's choice."""
import os
import subprocess
import sys

import pytest

from scratchgan import blas

ZEN_4 = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu avx2 avx512f avx512dq\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    "description, expected",
    [
        (ZEN_4, True),
        (ZEN_4.replace(" avx512f avx512dq", ""), False),      # Zen 3
        (ZEN_4.replace(": 25", ": 26"), False),               # Zen 5 has 512 bits in one turn
        (ZEN_4.replace("AuthenticAMD", "GenuineIntel"), False),
        ("", False),
        ("model name: something else\n", False),
    ],
)
def test_zen_4_is_known_by_its_description(description, expected):
    assert blas.is_zen_4(description) is expected


def chosen(tmp_path, first: str = "", **variables: str) -> str:
    """What the variable holds after a fresh interpreter on a Zen 4 has imported scratchgan."""
    description = tmp_path / "cpuinfo"
    description.write_text(ZEN_4)
    code = f"""
import os, pathlib
read_text = pathlib.Path.read_text
pathlib.Path.read_text = lambda path, **kw: read_text(pathlib.Path({str(description)!r}), **kw)
{first}
import scratchgan
print(os.environ.get("OPENBLAS_CORETYPE"))
"""
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"} | variables
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_kernels_are_named_before_numpy_comes_and_where_nobody_else_has(tmp_path):
    assert chosen(tmp_path) == "Haswell"
    assert chosen(tmp_path, OPENBLAS_CORETYPE="Zen") == "Zen"
    assert chosen(tmp_path, "import numpy") == "None"
