"""The images that the compose file names. What a registry has is pulled; where none can be reached, a stand-in of the same name is made
of Debian's packages. Our own image is built from the Dockerfile, which is what is tested."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import podman

DEBIAN = "docker.io/library/debian:bookworm-slim"
# busybox has the wget of their health checks. Users and directories are as the images' own; but what is mounted in memory keeps the mode
# that the directory has in the image, and never its owner.
STAND_INS = {
    "haproxy": ("haproxy busybox", "USER 99:99", 'CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'),
    "redis": ("redis-server redis-tools", "RUN mkdir -p /data && chmod 1777 /data\nWORKDIR /data", 'CMD ["redis-server"]'),
    "coturn": ("coturn", "USER 65534:65534", 'ENTRYPOINT ["turnserver"]'),
    "prometheus": (
        "prometheus busybox",
        "RUN mkdir -p /prometheus && chown 65534:65534 /prometheus\nUSER 65534:65534",
        'ENTRYPOINT ["prometheus"]',
    ),
}


def provide(name, cannot_pull=functools.lru_cache(None)(lambda: not _registry_answers())):
    """Has the image in the store."""
    if podman.run("image", "exists", name).returncode == 0:
        return
    if not cannot_pull() and podman.run("pull", "--quiet", name, timeout=900).returncode == 0:
        return
    kind = name.rsplit("/", 1)[-1].split(":")[0]
    if name == DEBIAN:
        _debian()
    elif kind == "rust":
        _rust(name)
    elif kind == "node":
        _node(name)
    elif kind == "opentelemetry-collector":
        _collector(name)
    else:
        packages, user, start = STAND_INS[kind]
        busybox = "RUN command -v wget || ln -s busybox /bin/wget" if "busybox" in packages else ""
        _from_debian(name, [_install(packages), busybox, user, start])


def provide_all(names):
    """Has these images, and those that our own is built from."""
    provide(DEBIAN)
    for name in sorted(set(names)):
        provide(name)
    for line in (podman.ROOT / "Dockerfile").read_text().splitlines():
        if (base := re.match(r"FROM (\S+) AS", line)) and base[1] != "scratch":
            provide(f"docker.io/library/{base[1]}")


def build(name, dockerfile="Dockerfile"):
    """Our image, from the Dockerfile as it is. Its base images stand in the store by now."""
    trust = ("--volume", f"{podman.CERTIFICATES}:{podman.CERTIFICATES}:ro") if podman.CERTIFICATES.exists() else ()
    # Without this format podman leaves the health check out.
    podman.succeed("build", *podman.LIMITS, *trust, "--format", "docker", "--file", dockerfile, "--tag", name, ".", timeout=3600)


def _registry_answers():
    try:
        return podman.run("pull", "--quiet", "--tls-verify=true", DEBIAN, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _install(packages):
    return (
        f"RUN apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {packages}"
        " && rm -rf /var/lib/apt/lists/*"
    )


def _debian():
    with tempfile.TemporaryDirectory() as directory:
        archive = f"{directory}/base.tar"
        options = ["--variant=minbase", "--include=ca-certificates", "bookworm", archive]
        subprocess.run(["mmdebstrap", "--quiet", *options], check=True, timeout=600)
        podman.succeed("import", archive, DEBIAN, timeout=300)


def _from_debian(name, lines, context=None):
    provide(DEBIAN)
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "Containerfile"
        file.write_text("\n".join([f"FROM {DEBIAN}", *filter(None, lines), ""]))
        podman.succeed("build", "--quiet", *podman.LIMITS, "--file", file, "--tag", name, context or directory, timeout=900)


def _rust(name):
    """This machine's compiler."""
    sysroot = pathlib.Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())
    lines = [_install("gcc libc6-dev make"), "COPY bin /usr/local/bin", "COPY lib /usr/local/lib"]
    _from_debian(name, lines, context=sysroot)


def _collector(name):
    """Another OTLP receiver, which writes down what it gets, and reads no file."""
    program = next((podman.ROOT / "target/venv/lib").glob("python*/site-packages/rotel/rotel-agent"))
    start = "exec rotel-agent start --otlp-grpc-endpoint 0.0.0.0:4317 --otlp-http-endpoint 0.0.0.0:4318"
    start += " --debug-log traces --debug-log-verbosity detailed --exporter blackhole"
    entry = json.dumps(["sh", "-c", start, "collector"])
    python = re.search(r"libpython\d+\.\d+", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout)
    _from_debian(name, [_install(python[0]) if python else "", f"COPY {program.name} /usr/local/bin/", f"ENTRYPOINT {entry}"], context=program.parent)


def _node(name):
    npm = pathlib.Path(subprocess.check_output(["npm", "root", "-g"], text=True).strip()) / "npm"
    with tempfile.TemporaryDirectory() as directory:
        context = pathlib.Path(directory)
        shutil.copy2(shutil.which("node"), context / "node")
        shutil.copytree(npm, context / "npm", symlinks=True)
        _from_debian(name, [
            "COPY node /usr/local/bin/node",
            "COPY npm /usr/local/lib/node_modules/npm",
            "RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm",
            f"ENV NODE_EXTRA_CA_CERTS={podman.CERTIFICATES}",
        ], context=context)
