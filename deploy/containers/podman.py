"""podman, as root, with a store of its own: nothing of what runs on this machine is touched."""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "target/containers"
# The default is more than some machines let even root have.
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=8192:8192")
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")


def command():
    """podman with that store. runc, since crun refuses cgroups of both versions at once."""
    found = ["podman", "--root", HERE / "store", "--runroot", HERE / "run"]
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    return [*map(str, found), *(["--runtime", runc] if runc else [])]


def run(*arguments, timeout=120, **options):
    """podman's result; it is for the caller to judge."""
    words = [*command(), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT, **options)


def succeed(*arguments, **options):
    """podman's output; any failure is shown."""
    result = run(*arguments, **options)
    assert result.returncode == 0, f"podman {' '.join(map(str, arguments))}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout.strip()


def wrapper():
    """A program that is this podman, for podman-compose."""
    file = HERE / "podman"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('#!/bin/sh\nexec ' + " ".join(f"'{word}'" for word in command()) + ' "$@"\n')
    file.chmod(0o755)
    return file
