"""What a line gives: the bytes of every GET into a PUT as they come, on kept connections; no hash, no proof, no record.

The reference for the emulated line: SOURCE_URL TARGET_URL STREAMS PART_MIB. Standard library only.
"""

from __future__ import annotations

import http.client
import os
import queue
import re
import ssl
import sys
import threading
from urllib.parse import urlsplit
from xml.sax.saxutils import unescape

BUFFER_BYTES = 256 * 1024
SOURCE_URL, TARGET_URL, STREAMS, PART_BYTES = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) << 20
TLS = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))

Job = tuple[str, int, int, int, str]
"""Key, part number (0: all of it in one PUT), offset, length, upload."""


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    secured = parts.scheme == "https"
    return http.client.HTTPSConnection(host, port, context=TLS) if secured else http.client.HTTPConnection(host, port)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> str:
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{method} {path}: {answer.status}")
    return text


def listed(connection: http.client.HTTPConnection) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    token = ""
    while True:
        text = ask(connection, "GET", f"/flatfiles?list-type=2{token}")
        keys = re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", text)
        found += [(unescape(key), int(size)) for key, size in keys]
        more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text)
        if more is None:
            return found
        token = f"&continuation-token={more[1]}"


def pump(source: http.client.HTTPConnection, target: http.client.HTTPConnection, job: Job) -> str:
    key, number, offset, length, upload = job
    source.request("GET", f"/flatfiles/{key}", headers={"Range": f"bytes={offset}-{offset + length - 1}"})
    incoming = source.getresponse()
    target.putrequest("PUT", f"/mirror/{key}" + (f"?partNumber={number}&uploadId={upload}" if number else ""))
    target.putheader("Content-Length", str(length))
    target.endheaders()
    while chunk := incoming.read1(BUFFER_BYTES):
        target.send(chunk)
    incoming.close()
    answer = target.getresponse()
    answer.read()
    return answer.headers["ETag"]


def work(jobs: queue.SimpleQueue[Job | None], etags: dict[str, dict[int, str]]) -> None:
    source, target = connect(SOURCE_URL), connect(TARGET_URL)
    while job := jobs.get():
        etags[job[0]][job[1]] = pump(source, target, job)


def main() -> None:
    files = listed(connect(SOURCE_URL))
    target = connect(TARGET_URL)
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    etags: dict[str, dict[int, str]] = {key: {} for key, _ in files}
    uploads: dict[str, str] = {}
    for key, size in files:
        if size <= PART_BYTES:
            jobs.put((key, 0, 0, size, ""))
            continue
        answer = ask(target, "POST", f"/mirror/{key}?uploads")
        uploads[key] = answer.partition("<UploadId>")[2].partition("<")[0]
        for number, offset in enumerate(range(0, size, PART_BYTES), 1):
            jobs.put((key, number, offset, min(PART_BYTES, size - offset), uploads[key]))
    threads = [threading.Thread(target=work, args=(jobs, etags)) for _ in range(STREAMS)]
    for thread in threads:
        jobs.put(None)
        thread.start()
    for thread in threads:
        thread.join()
    for key, upload in uploads.items():
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in sorted(etags[key].items())
        )
        ask(target, "POST", f"/mirror/{key}?uploadId={upload}", f"<Complete>{parts}</Complete>")


main()
