"""For `pytest bench/bench_*.py`: the table of cases and the PyTorch twins live in tests/."""
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]
