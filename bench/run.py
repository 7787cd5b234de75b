#!/usr/bin/python3
"""Runs the benchmarks; scripts/bench builds what they need and calls this."""
import argparse
import dataclasses
import json
import pathlib
import sys

import basics
import checkpoints
import firecracker_by_hand
import measure
import network
import qemu_by_hand

BENCHMARKS = {**basics.BENCHMARKS, **checkpoints.BENCHMARKS, **network.BENCHMARKS}


@dataclasses.dataclass
class Bench:
    binaries: pathlib.Path
    images: pathlib.Path
    vmm: str
    tick_ms: int

    @property
    def by_hand(self):
        """Booted, Woken and Saver: what the server does, with nothing but the VMM."""
        return firecracker_by_hand if self.vmm == "firecracker" else qemu_by_hand


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Ours against the floor, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--vmm", choices=["qemu", "firecracker"], default="qemu", help="(default qemu)")
    parser.add_argument("--tick", type=int, default=1, metavar="MS",
                        help="how often a guest shows that it runs where its pause is measured (default 1); "
                             "one below a KVM that is emulated itself does nothing else at that rate")  # fmt: skip
    parser.add_argument("--binaries", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--images", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark '{unknown[0]}'; there are {', '.join(BENCHMARKS)}")
    bench = Bench(arguments.binaries.absolute(), arguments.images.absolute(), arguments.vmm,
                  arguments.tick)
    measurements = []
    # The network is the same under every VMM; its floors are QEMU's.
    usual = BENCHMARKS if arguments.vmm == "qemu" else {**basics.BENCHMARKS, **checkpoints.BENCHMARKS}
    for name in arguments.names or usual:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measured = BENCHMARKS[name](bench)
        measurements += measured if isinstance(measured, list) else [measured]
    print(measure.table(measurements))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps([m.as_json() for m in measurements], indent=1) + "\n")


main()
