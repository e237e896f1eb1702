"""NumPy's BLAS says which kernels it uses; one that is not OpenBLAS goes on as it is."""

import os
import platform
import subprocess
import sys

from scratchgan import blas


def test_kernels_are_those_that_the_environment_asks_for():
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    ask = "from scratchgan import blas; print(blas.kernels())"
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ("Haswell" if platform.machine() == "x86_64" else blas.kernels())


def test_another_blas_is_left_alone(monkeypatch):
    monkeypatch.setattr(blas, "_openblas", lambda name: None)
    assert blas.kernels() is None
    assert blas.one_thread() is False
