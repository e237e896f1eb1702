"""The errors of tests/planted.py can still be planted: the whole run takes some ten minutes, this none."""
from __future__ import annotations

import pytest

from tests import planted


@pytest.mark.parametrize("error", planted.ERRORS, ids=lambda error: error.what)
def test_the_text_to_be_replaced_is_there_once(error):
    assert (planted.ROOT / error.file).read_text(encoding="utf-8").count(error.old) == 1
