"""Measurements of gradloom beside PyTorch, hand-written JAX and hand-written NumPy.

Run all of them from the repository's root with ``python -m benchmarks.run_all [--quick]``, or one of
``benchmarks.tiny``, ``benchmarks.steps``, ``benchmarks.compile_cost``, ``benchmarks.memory``,
``benchmarks.import_time``. ``python -m benchmarks.peers.selftest`` checks first that all contestants
do the same work.
"""
