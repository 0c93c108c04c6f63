#!/usr/bin/env python3
"""contents.py BINARY CARGO.LOCK SBOM: reads the binary's section .dep-v0 as scanners do, and compares it with the lock file and
with the bill of materials."""

import json
import re
import subprocess
import sys
import tempfile
import zlib

binary, lock, sbom = sys.argv[1:]
with tempfile.NamedTemporaryFile() as section, tempfile.NamedTemporaryFile() as rest:
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.dep-v0", "--set-section-flags", ".dep-v0=alloc", binary, section.name], check=True)
    packages = json.loads(zlib.decompress(open(section.name, "rb").read()))["packages"]
names = {(p["name"], p["version"]) for p in packages}
locked = set(re.findall(r'name = "(.*)"\nversion = "(.*)"', open(lock).read()))
listed = {(c["name"], c["version"]) for c in json.load(open(sbom))["components"]}
assert names <= locked, f"not in the lock file: {names - locked}"
roots = [p for p in packages if p.get("root")]
assert len(roots) == 1 and roots[0]["name"] == "kes", roots
assert listed == names - {(roots[0]["name"], roots[0]["version"])}, f"differs from the bill of materials: {listed ^ names}"
assert {"ring", "rustls", "libc"} <= {name for name, _ in names}
assert not any(name in ("proptest", "tempfile") for name, _ in names), "packages of the tests"
for package in packages:
    assert all(0 <= i < len(packages) for i in package.get("dependencies", [])), package
print(f"{len(packages)} packages")
