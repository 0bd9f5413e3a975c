"""The benchmark after MBE2.0 (2511.12449): nine retrieval directions, zero-shot categories and attributes."""

from moonshelf.evaluation.benchmark.embedders import of_encoder, of_trunk, read_vectors, write_inputs
from moonshelf.evaluation.benchmark.run import BenchmarkResult, Tasks, build_tasks, measure, score

__all__ = [
    "BenchmarkResult",
    "Tasks",
    "build_tasks",
    "measure",
    "of_encoder",
    "of_trunk",
    "read_vectors",
    "score",
    "write_inputs",
]
