#!/usr/bin/env python3
"""Exit status 0 when the process of this container answers: `healthcheck [URL]`, else HEALTH_URL, else a worker's page.

/healthz and not /readyz: a worker that restores for an hour is alive, and to kill it would begin the hour again.
"""

import os
import sys
import urllib.error
import urllib.request

WORKER = "http://127.0.0.1:6066/healthz"


def main() -> int:
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HEALTH_URL", WORKER)
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as problem:
        print(f"{url}: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
