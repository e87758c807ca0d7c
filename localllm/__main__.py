"""The command `localllm`, also as `python -m localllm`: Ctrl-C is no error, from the first moment on."""

import sys


def main() -> int:
    """Run the command line. Returns the exit code."""
    try:
        # Here and not above: importing the commands is most of the time in which somebody may have second thoughts.
        from localllm.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
