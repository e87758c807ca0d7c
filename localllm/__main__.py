"""`python -m localllm` is the same as `localllm`."""

import sys

from localllm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
