"""The command line: one module per command, each with `register(commands)` and `handle(args)`.

Modules here import only argparse and the standard library at the top; what a command needs is imported in its handler,
so that `localllm --help` stays instant.
"""
