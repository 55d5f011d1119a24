"""Time an ONNX model on the device where this file lies; it needs Python, numpy and onnxruntime, and nothing of triaxis.

    python3 bench_onnxruntime.py MODEL BATCH SIDE [THREADS]

MODEL is a file, or - for standard input, so that one command reaches a device behind ssh:

    profile:
      runtime: command
      command: "ssh pi python3 bench_onnxruntime.py - {batch} {side} 4"

The last line is JSON that triaxis reads: the median of one batch in milliseconds, and half the distance between the quartiles.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime

WARMUP, RUNS, SECONDS = 10, 200, 3.0


def main(model, batch, side, threads="0"):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    source = sys.stdin.buffer.read() if model == "-" else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = np.random.default_rng(0).standard_normal((int(batch), entry.shape[1], int(side), int(side)), dtype=np.float32)
    for _ in range(WARMUP):
        session.run(None, {entry.name: images})
    found, end = [], time.perf_counter() + SECONDS
    while len(found) < 7 or (len(found) < RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        session.run(None, {entry.name: images})
        found.append((time.perf_counter() - start) * 1e3)
    low, middle, high = statistics.quantiles(found, n=4)
    print(json.dumps({"median_ms": middle, "spread_ms": (high - low) / 2, "runs": len(found)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
