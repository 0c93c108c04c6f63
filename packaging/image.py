#!/usr/bin/env python3
"""image.py BINARY NOTICES LICENSE VERSION SECONDS OUT: an OCI image layout (image-spec 1.0) with nothing in it but the program
and its licences, as the tar file OUT. The same input gives the same bytes; SECONDS is the time that everything bears."""

import gzip
import hashlib
import io
import json
import sys
import tarfile
import time

binary, notices, licence, version, seconds, out = sys.argv[1:]
seconds = int(seconds)
created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def add(archive, name, content, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.mtime = seconds
    if content is None:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
    else:
        entry.size, entry.mode = len(content), mode
        archive.addfile(entry, io.BytesIO(content))


def read(path):
    with open(path, "rb") as file:
        return file.read()


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
    add(archive, "kes", read(binary), 0o755)
    for folder in ("usr", "usr/share", "usr/share/licenses", "usr/share/licenses/kes"):
        add(archive, folder, None)
    add(archive, "usr/share/licenses/kes/LICENSE", read(licence))
    add(archive, "usr/share/licenses/kes/third-party-notices.gz", read(notices))
layer = layer.getvalue()
packed = gzip.compress(layer, 9, mtime=0)

blobs = {}


def blob(content, media_type):
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def encode(document):
    return json.dumps(document, indent=1).encode()


labels = {
    "org.opencontainers.image.title": "kes",
    "org.opencontainers.image.description": "Key encryption server for MinIO, with sealed keys on disk",
    "org.opencontainers.image.version": version,
    "org.opencontainers.image.licenses": "Apache-2.0",
}
config = {
    "created": created,
    "architecture": "amd64",
    "os": "linux",
    # Nobody in particular: no file of the image needs more. Kubernetes can set another.
    "config": {
        "User": "65532:65532",
        "Entrypoint": ["/kes"],
        "Cmd": ["server", "--config", "/etc/kes/config.yml"],
        "ExposedPorts": {"7373/tcp": {}},
        "StopSignal": "SIGTERM",
        "Labels": labels,
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    "history": [{"created": created, "created_by": "packaging/image.py"}],
}
image = "application/vnd.oci.image."
manifest = {
    "schemaVersion": 2,
    "mediaType": image + "manifest.v1+json",
    "config": blob(encode(config), image + "config.v1+json"),
    "layers": [blob(packed, image + "layer.v1.tar+gzip")],
    "annotations": labels,
}
entry = blob(encode(manifest), image + "manifest.v1+json")
entry["platform"] = {"architecture": "amd64", "os": "linux"}
entry["annotations"] = {"org.opencontainers.image.ref.name": version}
index = {"schemaVersion": 2, "mediaType": image + "index.v1+json", "manifests": [entry]}

with tarfile.open(out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
    add(archive, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
    add(archive, "index.json", encode(index))
    for folder in ("blobs", "blobs/sha256"):
        add(archive, folder, None)
    for digest in sorted(blobs):
        add(archive, f"blobs/sha256/{digest}", blobs[digest])
