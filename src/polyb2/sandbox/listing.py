"""ListObjectsV2 over sorted keys: prefix, delimiter, pages, start-after; shared by both servers."""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

from polyb2.sandbox.exchange import Reply, xml_reply

PAGE_KEYS = 1000


def list_objects(keys: Sequence[str], query: Mapping[str, str], bucket: str, entry: Callable[[str], str]) -> Reply:
    """A ListObjectsV2 answer.

    Args:
        keys: all keys, sorted.
        query: of the request.
        bucket: its name.
        entry: the XML of a key's facts, without the key.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = min(int(query.get("max-keys", PAGE_KEYS)), PAGE_KEYS)
    by_url = query.get("encoding-type") == "url"
    encode = (lambda text: quote(text, safe="/~")) if by_url else escape
    token = query.get("continuation-token")
    after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
    items: list[str] = []
    index = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    last = ""
    while index < len(keys) and keys[index].startswith(prefix) and len(items) < limit:
        key = keys[index]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            items.append(f"<Contents><Key>{encode(key)}</Key>{entry(key)}</Contents>")
            last, index = key, index + 1
        else:
            folder = key[: cut + len(delimiter)]
            items.append(f"<CommonPrefixes><Prefix>{encode(folder)}</Prefix></CommonPrefixes>")
            last = folder + "\U0010ffff"
            index = bisect_left(keys, last)
    truncated = index < len(keys) and keys[index].startswith(prefix) and limit > 0
    more = f"<NextContinuationToken>{base64.urlsafe_b64encode(last.encode()).decode()}</NextContinuationToken>"
    return xml_reply(
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
        f"<Prefix>{encode(prefix)}</Prefix><KeyCount>{len(items)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if by_url else ''}"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{more if truncated else ''}"
        f"{''.join(items)}</ListBucketResult>"
    )
