"""A process that pushes by huggingface_hub and hf_xet, timed around the call, its own cache of chunks beside it."""

import json
import os
import sys
import time

from huggingface_hub import HfApi


def push(file: str) -> list[float]:
    """Upload a file to the only repository; return seconds of clock and processors."""
    wall, processors = time.perf_counter(), time.process_time()
    HfApi().upload_file(path_or_fileobj=file, path_in_repo="model.pt", repo_id="bench/net")
    return [time.perf_counter() - wall, time.process_time() - processors]


def main() -> None:
    """Answer a line of JSON after another, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        answers.write(json.dumps({"push": push}[verb](**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
