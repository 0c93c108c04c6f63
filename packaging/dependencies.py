#!/usr/bin/env python3
"""What the program is made of, from `cargo metadata` on standard input:

    dependencies.py embed    the list that goes into the binary's section .dep-v0 (zlib over JSON, as cargo-auditable makes
                             it and its readers understand it)
    dependencies.py sbom     a bill of materials, CycloneDX 1.5 in JSON
    dependencies.py notices  the licences of everything in the binary, with their texts

Only what is linked into the program (normal dependencies) or runs while it is built (build dependencies and procedural
macros, kind "build" in the list) counts; not the tests.
"""

import json
import pathlib
import sys
import zlib

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


class Tree:
    """The packages that the root needs, each with whether it ends up in the binary."""

    def __init__(self, metadata):
        self.packages = {package["id"]: package for package in metadata["packages"]}
        self.nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        self.root = metadata["resolve"]["root"]
        self.runtime, self.build = set(), set()
        self.walk(self.root, self.runtime)
        self.build -= self.runtime

    def walk(self, package, into):
        if package in into:
            return
        into.add(package)
        for dependency in self.nodes[package]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            is_macro = any("proc-macro" in target["kind"] for target in self.packages[dependency["pkg"]]["targets"])
            if None in kinds and not is_macro:
                self.walk(dependency["pkg"], into)
            elif None in kinds or "build" in kinds:
                self.walk(dependency["pkg"], self.build)

    def all(self):
        """Packages in a fixed order, with their kind."""
        chosen = self.runtime | self.build
        key = lambda package: (self.packages[package]["name"], self.packages[package]["version"])
        return [(self.packages[id], "runtime" if id in self.runtime else "build") for id in sorted(chosen, key=key)]

    def needs(self, package):
        """The packages that one needs, of those that count."""
        edges = self.nodes[package["id"]]["deps"]
        wanted = {e["pkg"] for e in edges if any(k["kind"] in (None, "build") for k in e["dep_kinds"])}
        return wanted & (self.runtime | self.build)


def source(package):
    if package["source"] is None:
        return "local"
    return "crates.io" if package["source"] == REGISTRY else "registry"


def embed(tree):
    order = {package["id"]: i for i, (package, _) in enumerate(tree.all())}
    packages = []
    for package, kind in tree.all():
        entry = {"name": package["name"], "version": package["version"], "source": source(package)}
        if kind == "build":
            entry["kind"] = "build"
        needs = sorted(order[id] for id in tree.needs(package))
        if needs:
            entry["dependencies"] = needs
        if package["id"] == tree.root:
            entry["root"] = True
        packages.append(entry)
    text = json.dumps({"packages": packages}, separators=(",", ":"))
    sys.stdout.buffer.write(zlib.compress(text.encode(), 9))


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def sbom(tree):
    def component(package, kind):
        entry = {
            "type": "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package),
            "scope": "required" if kind == "runtime" else "excluded",
        }
        if package["license"]:
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        return entry

    root = component(tree.packages[tree.root], "runtime")
    root["type"] = "application"
    del root["scope"]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": [component(p, kind) for p, kind in tree.all() if p["id"] != tree.root],
        "dependencies": [
            {"ref": reference(p), "dependsOn": sorted(reference(tree.packages[id]) for id in tree.needs(p))}
            for p, _ in tree.all()
        ],
    }
    print(json.dumps(document, indent=1))


def notices(tree):
    print("The program contains the following packages, each under its own licence.\n")
    texts = {}
    for package, kind in tree.all():
        if kind != "runtime" or package["id"] == tree.root:
            continue
        print(f"{package['name']} {package['version']}: {package['license'] or 'see its text below'}")
        folder = pathlib.Path(package["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            name = file.name.upper()
            if file.is_file() and name.startswith(("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE")):
                text = file.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} {package['version']} ({file.name})")
    print("\nRust's standard library (MIT OR Apache-2.0), musl (MIT) and gcc's unwinder (GPL-3.0 with the GCC Runtime Library")
    print("Exception, which lets it be part of programs under any licence) are linked in, too.")
    for text, owners in texts.items():
        print("\n" + "-" * 80)
        print("\n".join(owners) + "\n\n" + text)


if __name__ == "__main__":
    {"embed": embed, "sbom": sbom, "notices": notices}[sys.argv[1]](Tree(json.load(sys.stdin)))
