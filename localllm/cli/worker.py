"""`localllm worker`: lends this machine's GPU or CPU to a model that runs elsewhere."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, TextIO

from localllm.cli import options, values

if TYPE_CHECKING:
    from localllm.native.devices import Device

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 50052

EPILOG = """examples:
  localllm worker                                    this machine's GPU, or its CPU, for programs on this machine
  localllm worker --memory 4GiB --threads 2          no more than that of it
  localllm run --worker 127.0.0.1:50052 "Hi"         use it

from another machine, through a tunnel that encrypts and asks who you are:
  ssh -N -L 50052:127.0.0.1:50052 THIS-MACHINE       there; then use 127.0.0.1:50052 as above

A worker serves one program at a time, and both need the same version of llama-cpp-python. Ctrl-C ends it.
"""


def address(text: str) -> str:
    """An IPv4 address of this machine."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv4 address, such as 192.168.0.7 or 0.0.0.0") from error


def port(text: str) -> int:
    """A TCP port; 0 means any that is free."""
    number = values.whole(text)
    if number >= 1 << 16:
        raise argparse.ArgumentTypeError(f"{number} is no port: they end at 65535")
    return number


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `worker` command."""
    parser = commands.add_parser(
        "worker",
        help="lend this machine to a model that runs elsewhere",
        description="Serve this machine's GPU, or its CPU, over llama.cpp's RPC: others add it with --worker.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=port, default=DEFAULT_PORT, metavar="N", help=f"(default: {DEFAULT_PORT}; 0: any that is free)"
    )
    parser.add_argument(
        "--listen",
        type=address,
        default=LOOPBACK,
        metavar="ADDRESS",
        help="serve on another address than the loopback; nothing asks who connects, so prefer a tunnel",
    )
    parser.add_argument(
        "--threads", type=values.threads, default=0, metavar="N", help="CPU threads (default: physical cores)"
    )
    parser.add_argument(
        "--memory", type=values.byte_count, metavar="SIZE", help="lend no more than 4GiB, say (default: all)"
    )
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which ends the process on the spot: llama.cpp's server cannot be asked to stop."""
    from localllm.native import machine, rpc_server

    options.route_log(args)
    if not ipaddress.ip_address(args.listen).is_loopback:
        _warn(args.listen)
    number = _free_port(args.listen, args.port)
    out = _own_stdout(args.verbose)

    def ready(offered: list[tuple[Device, int]]) -> None:
        for device, free in offered:
            print(f"Serving {device.name} ({device.description}) with {_size(free)} of memory.", file=out)
        print(f"Use it with --worker {args.listen}:{number}. Ctrl-C ends it.", file=out, flush=True)

    threads = args.threads or machine.usable_threads()
    try:
        rpc_server.serve(args.listen, number, threads=threads, memory=args.memory, ready=ready)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    return 0


def _warn(listen: str) -> None:
    print(
        f"warning: whoever reaches {listen} can use this worker, read what it computes and crash it, for llama.cpp's\n"
        "  RPC has no authentication and no encryption. Safer: leave out --listen and tunnel with\n"
        f"  ssh -N -L {DEFAULT_PORT}:{LOOPBACK}:{DEFAULT_PORT} THIS-MACHINE",
        file=sys.stderr,
    )


def _free_port(listen: str, wanted: int) -> int:
    """The port to serve on, now free. llama.cpp would say of another's only that it failed."""
    from localllm.errors import BadWorker

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen, wanted))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise BadWorker(
            f"{listen}:{wanted} cannot be served on: {error.strerror or error}.",
            hint="Choose another port with --port; --port 0 takes any that is free.",
        ) from error


def _own_stdout(verbose: bool) -> TextIO:
    """Our stdout; llama.cpp's server prints to the descriptor itself, which shows with --verbose only, on stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    other = sys.stderr.fileno() if verbose else os.open(os.devnull, os.O_WRONLY)
    os.dup2(other, 1)
    return out


def _size(size: int) -> str:
    from localllm.runtime.types import mib

    return mib(size)
