"""The client process of the rows of memory: waits for a word, and runs all transfers by threads at once."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weighbridge import Client


def main() -> None:
    """Run what the command line names: the URL, `push` or `download`, the folder, how many."""
    url, verb, name, count = sys.argv[1:]
    folder = Path(name)

    def transfer(number: int) -> None:
        cache = folder / f"cache{number}"
        with Client(url, cache_dir=cache, progress=False) as hub:
            if verb == "push":
                hub.push(f"bench/net{number}", folder / "files" / f"net{number}.safetensors")
            else:
                hub.download(f"bench/net{number}", folder / f"out{number}")
                shutil.rmtree(folder / f"out{number}")
        shutil.rmtree(cache, ignore_errors=True)

    with ThreadPoolExecutor(int(count)) as threads:
        print("ready", flush=True)
        sys.stdin.readline()
        list(threads.map(transfer, range(int(count))))
    print("done", flush=True)


if __name__ == "__main__":
    main()
