"""What the end-to-end tests share: they drive the built programs, never their parts.

NOID_TEST_BIN     directory of the programs   (default build/asan/bin)
"""
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("NOID_TEST_BIN", ROOT / "build/asan/bin"))
