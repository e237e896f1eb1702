"""Benchmarks against PyTorch on the CPU: correctness first, then both sides timed in turn in the same
process.

    python -m bench engine      what one op costs on 16 elements, forward and backward
    python -m bench overhead    the same beside its NumPy calls written out by hand: the difference is the engine's
    python -m bench ops         every op of the test table on larger arrays, forward and backward
    python -m bench steps       a whole training step of each GAN
    python -m bench memory      the peak memory of each of those steps
    python -m bench logging     what the diagnosis adds to a step of each GAN
    python -m bench critic      whether a critic's estimate follows the distance (trains for minutes)
    python -m bench training    what each GAN reaches on digits (trains for hours)
    python -m bench upscaling   super-resolution of photographs, against bicubic (trains for a quarter of an hour)

`--quick` takes fewer rounds. Tables go to the screen and, with the processor, the commit and the versions, to
bench/results/*.csv. The same workloads are pytest-benchmark functions: `pytest bench/bench_engine.py`, and so
on.
"""
