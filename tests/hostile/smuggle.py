"""Sends requests that two readers could take for different ones, and says what is answered.

Each carries in its body, or in what one reader could take for its body, a request for a path with `smuggled` in it, which
the proxies in front refuse. Whether it has come through is seen in the server's audit log.

    smuggle.py NAME HOST:PORT [CA CERT KEY]    over TLS if there are certificates
"""

import re
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

name, (host, port) = sys.argv[1], sys.argv[2].split(":")
context = None
if len(sys.argv) > 3:
    context = ssl.create_default_context(cafile=sys.argv[3])
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    context.set_alpn_protocols(["http/1.1"])

INNER = b"PUT /v1/key/create/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
START = b"PUT /v1/key/generate/mine HTTP/1.1\r\nHost: localhost\r\n"


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def rows():
    """Pairs of a name and the bytes to send."""
    # A reader that believes in the length takes INNER for the body, one that believes in the coding for a request.
    hidden = b"0\r\n\r\n" + INNER
    length = b"Content-Length: %d\r\n" % len(hidden)
    # Here it is the other way round.
    piece = chunked(INNER)
    short = b"Content-Length: %d\r\n" % (piece.index(b"\r\n") + 2)
    codings = {
        "plain": b"Transfer-Encoding: chunked\r\n",
        "in capitals": b"TRANSFER-ENCODING: CHUNKED\r\n",
        "with a tab": b"Transfer-Encoding:\tchunked\r\n",
        "with a space before the colon": b"Transfer-Encoding : chunked\r\n",
        "after a vertical tab": b"Transfer-Encoding:\x0bchunked\r\n",
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "and another": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "after another": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "in a list": b"Transfer-Encoding: identity, chunked\r\n",
        "before another in a list": b"Transfer-Encoding: chunked, identity\r\n",
        "in quotes": b'Transfer-Encoding: "chunked"\r\n',
        "misspelt": b"Transfer-Encoding: xchunked\r\n",
        "with a parameter": b"Transfer-Encoding: chunked;a=b\r\n",
        "on a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
        "followed by a folded line": b"Transfer-Encoding: chunked\r\n x\r\n",
        "after a bare line feed": b"X: y\nTransfer-Encoding: chunked\r\n",
        "after a bare carriage return": b"X: y\rTransfer-Encoding: chunked\r\n",
        "after a null byte": b"X: y\x00Transfer-Encoding: chunked\r\n",
        "with a null byte": b"Transfer-Encoding: chunked\x00\r\n",
        "named by Connection": b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
    }
    for how, coding in codings.items():
        yield f"a length before a coding {how}", START + length + coding + b"\r\n" + hidden
        yield f"a length after a coding {how}", START + coding + length + b"\r\n" + hidden
        if not how.startswith("after a bare c") and not how.startswith("after a n"):
            yield f"a short length beside a coding {how}", START + short + coding + b"\r\n" + piece
    for header in [b"Transfer_Encoding", b"X-Transfer-Encoding", b"Transfer-Encodinq"]:
        yield f"a header that is none, {header.decode()}", START + length + header + b": chunked\r\n\r\n" + hidden
    for how in ["+%d", "-%d", "0x%x", "%d,%d", "%d %d", "%d.0", "%de0", "\x0b%d", "_%d", "%d\x00"]:
        for first in [b"", b"Content-Length: 0\r\n"]:
            value = (how % ((len(INNER),) * how.count("%"))).encode()
            yield f"a length of {how!r} after {first!r}", START + first + b"Content-Length: " + value + b"\r\n\r\n" + INNER
    for one, other in [(0, len(INNER)), (len(INNER), 0), (5, len(INNER))]:
        text = b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (one, other)
        yield f"lengths of {one} and {other}", START + text + INNER
    yield "a length of 2^64", START + b"Content-Length: 18446744073709551616\r\n\r\n" + INNER
    yield "a length named by Connection", START + length + b"Connection: Content-Length\r\n\r\n" + hidden
    one = b"Transfer-Encoding: chunked\r\n\r\n"
    for size in [b"0x0", b"+0", b"-0", b" 0", b"0 ", b"00;\n", b"0;a\nb", b"0\n", b"", b"10000000000000000", b"0_0", b"0;\x00"]:
        yield f"a chunk of size {size!r}", START + one + size + b"\r\n\r\n" + INNER
    yield "a chunk that ends with a line feed", START + one + b"1\r\na\n0\r\n\r\n" + INNER[:0]
    yield "a chunk that is longer than it says", START + one + b"1\r\n" + INNER + b"\r\n0\r\n\r\n"
    yield "a length among the trailers", START + one + b"0\r\nContent-Length: %d\r\n\r\n" % len(INNER)
    yield "HTTP/1.0 with a coding", START.replace(b"1.1", b"1.0") + length + codings["plain"] + b"\r\n" + hidden
    yield "a body of GET", b"GET /version HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n" + hidden
    yield "an expectation", START + b"Expect: 100-continue\r\n" + length + b"\r\n" + hidden
    yield "a line feed in the target", b"GET /version\nX: HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for target in [b"/version%0d%0a%0d%0aPUT%20/v1/key/create/smuggled%20HTTP/1.1", b"/version HTTP/1.1\tx"]:
        yield f"the target {target!r}", b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


def statuses(row):
    """The status codes of what comes back for a row and a request after it."""
    got = b""
    try:
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            wire = context.wrap_socket(plain, server_hostname=host) if context else plain
            wire.sendall(row)
            wire.settimeout(0.5)
            # A second request, for whatever is left in a reader's buffer to be put before.
            for text in [b"", b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"]:
                try:
                    wire.sendall(text)
                    while piece := wire.recv(65536):
                        got += piece
                except TimeoutError:
                    pass
    except OSError:
        pass
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]


with ThreadPoolExecutor(16) as pool:
    asked = list(rows())
    answers = list(pool.map(lambda row: statuses(row[1]), asked))
for (what, _), codes in zip(asked, answers):
    print(f"{name}: {what}: {codes}")
