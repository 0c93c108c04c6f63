#!/usr/bin/env python3
"""Opens the seal file and the key files of a store without kes.

Written from kes-seal(5) alone, in another language and with another cryptographic library, as a proof that the page
says all that is needed. It reads; it changes nothing.

    seal_reader.py [--passphrase FILE | --secret FILE] [--out DIR] SEAL-FILE [KEY-FILE...]

Prints `root ID active|retired CREATED` for each root key, then `key NAME SHA256` for each key file (the SHA-256 of its
value) or `refused NAME: why`. The exit status is 1 if anything is refused. With --out the values themselves are written
to DIR, mode 0600: a store in the form of the original server.

Needs Python 3.9 and `cryptography` 44 or later.
"""

import argparse
import base64
import hashlib
import hmac
import os
import re
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_FILE = 1048576
CIPHERS = {1: AESGCM, 2: ChaCha20Poly1305}


class Refused(Exception):
    """The file is not of the written form, or does not open."""


def number(text, limit):
    """A NUMBER: decimal digits without sign and without leading zeros."""
    if not re.fullmatch(rb"0|[1-9][0-9]*", text) or int(text) > limit:
        raise Refused(f"not a number up to {limit}")
    return int(text)


def unbase64(text):
    """BASE64: standard alphabet, padding, one written form."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("malformed base64") from None
    if base64.b64encode(data) != text:
        raise Refused("base64 with unused bits set")
    return data


def open_value(sealed, secret, info, binding):
    """SEALED VALUES: cipher byte, salt, ciphertext, tag."""
    if len(sealed) < 1 + 32 + 16:
        raise Refused("the sealed value is cut short")
    cipher = CIPHERS.get(sealed[0])
    if cipher is None:
        raise Refused(f"unknown cipher {sealed[0]}")
    key = HKDF(SHA256(), 32, salt=sealed[1:33], info=info).derive(secret)
    try:
        return cipher(key).decrypt(bytes(12), sealed[33:], binding)
    except InvalidTag:
        raise Refused("does not authenticate") from None


def root_key_id(key):
    """ROOT KEYS: the first 8 bytes of an HMAC, as 16 hexadecimal digits."""
    return hmac.new(key, b"kes root key id v1", hashlib.sha256).hexdigest()[:16].encode()


def read_roots(text):
    """The root lines: [(ID, state, created, key)], the active one first."""
    roots = []
    for line in text.splitlines(keepends=True):
        form = rb"root ([0-9a-f]{16}) (active|retired) ([0-9]+) ([0-9A-Za-z+/=]{44})\n"
        match = re.fullmatch(form, line)
        if match is None:
            raise Refused("malformed root key")
        name, state, created, encoded = match.groups()
        key = unbase64(encoded)
        if len(key) != 32 or root_key_id(key) != name:
            raise Refused("a root key is not the one of its ID")
        if state != (b"retired" if roots else b"active"):
            raise Refused("exactly the first root key must be active")
        roots.append((name, state, number(created, 2**64 - 1), key))
    if not roots or len({root[0] for root in roots}) != len(roots):
        raise Refused("no root key, or one that is there twice")
    return roots


def passphrase_key(parameters, passphrase):
    """The secret of the method `passphrase`."""
    form = rb"argon2id v=19 m=([0-9]+) t=([0-9]+) p=([0-9]+) salt=([0-9A-Za-z+/=]+)"
    match = re.fullmatch(form, parameters)
    if match is None:
        raise Refused("malformed parameters of Argon2id")
    memory, passes, lanes = (
        number(text, limit) for text, limit in zip(match.groups()[:3], (1048576, 100, 16))
    )
    salt = unbase64(match[4])
    if passes < 1 or lanes < 1 or memory < 8 * lanes or not 16 <= len(salt) <= 64:
        raise Refused("parameters of Argon2id are out of bounds")
    if passphrase.endswith(b"\n"):
        passphrase = passphrase[:-1].removesuffix(b"\r")
    kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    return kdf.derive(passphrase)


def read_seal_file(text, passphrase, secret):
    """SEAL FILE: the root keys."""
    if len(text) > MAX_FILE:
        raise Refused("too long")
    content, check = text[:-71], text[-71:]
    if check != b"check " + hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise Refused("the checksum does not match")
    match = re.fullmatch(rb"kes-seal v1\nunlock ([a-z]+)( [^\n]+)?\n((?:[^\n]*\n)*)", content)
    if match is None:
        raise Refused("not a seal file of version 1")
    method, parameters, body = match.groups()
    if method == b"none" and parameters is None:
        return read_roots(body)
    if method == b"passphrase" and parameters is not None:
        if passphrase is not None:
            secret = passphrase_key(parameters[1:], passphrase)
    elif method not in (b"credential", b"command") or parameters is not None:
        raise Refused("unknown unlock method")
    if secret is None:
        raise Refused(f"locked by the method '{method.decode()}', and its secret is not given")
    match = re.fullmatch(rb"body ([0-9A-Za-z+/=]+)\n", body)
    if match is None:
        raise Refused("malformed body")
    binding = content[: len(content) - len(body)]
    return read_roots(open_value(unbase64(match[1]), secret, b"kes seal file v1", binding))


def read_key_file(name, text, roots):
    """KEY FILES: the value, which is the stored form of the original server."""
    if len(text) > MAX_FILE:
        raise Refused("too long")
    if not re.fullmatch(rb"[0-9A-Za-z_]([0-9A-Za-z_-]{0,78}[0-9A-Za-z_])?", name) or name == b"_":
        raise Refused("the file's name is no name of a key")
    match = re.fullmatch(rb"(kes-sealed v1 ([0-9a-f]{16})\n)([0-9A-Za-z+/=]+)\n", text)
    if match is None:
        raise Refused("not a sealed key file of version 1")
    line, root_id, encoded = match.groups()
    for known, _, _, key in roots:
        if known == root_id:
            return open_value(unbase64(encoded), key, b"kes sealed key v1", line + name)
    raise Refused(f"sealed under root key {root_id.decode()}, which the seal file lacks")


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description="Opens a sealed store of kes without kes.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--passphrase", metavar="FILE", help="the passphrase is in FILE")
    source.add_argument("--secret", metavar="FILE", help="the credential, or what the command printed, is in FILE")
    parser.add_argument("--out", metavar="DIR", help="write the values into DIR")
    parser.add_argument("seal_file")
    parser.add_argument("key_files", nargs="*")
    args = parser.parse_args()
    try:
        passphrase = args.passphrase and read_file(args.passphrase)
        secret = args.secret and read_file(args.secret)
        roots = read_seal_file(read_file(args.seal_file), passphrase, secret)
    except (Refused, OSError) as error:
        print(f"refused {args.seal_file}: {error}")
        return 1
    for name, state, created, _ in roots:
        print(f"root {name.decode()} {state.decode()} {created}")
    status = 0
    for path in args.key_files:
        name = os.path.basename(path)
        try:
            value = read_key_file(os.fsencode(name), read_file(path), roots)
        except (Refused, OSError) as error:
            print(f"refused {name}: {error}")
            status = 1
            continue
        print(f"key {name} {hashlib.sha256(value).hexdigest()}")
        if args.out:
            descriptor = os.open(os.path.join(args.out, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
    return status


if __name__ == "__main__":
    sys.exit(main())
