"""What the programs in this folder share: they read events, call a service over HTTP, and answer.

A program of yours can use it too: copy this file beside it.

    import receiver

    def act(event):
        ...                                     # raise receiver.Refused to drop the event, or any error to get it again

    receiver.run(act)

banstream writes one event at a time, a line of JSON, and waits for a line: `OK`; `REFUSED why`, which drops the event;
`ERROR why` or `WAIT seconds why`, after which it comes again. The same event may come twice. stdout is for answers only,
and a program that writes anything else there is started again; stderr goes to the daemon's log.
"""

import datetime
import email.utils
import json
import ssl
import sys
import urllib.error
import urllib.request

TIMEOUT = 8  # seconds for a request; `timeout` of the receiver must have room for some of them


class Refused(Exception):
    """The service will never take this event."""


class Wait(Exception):
    """The service wants to be left alone for so many seconds."""

    def __init__(self, seconds, why):
        super().__init__(f"{seconds} {why}")


def run(act):
    """Answers events until there are no more."""
    for line in sys.stdin:
        try:
            act(json.loads(line))
            answer = "OK"
        except Refused as why:
            answer = f"REFUSED {why}"
        except Wait as why:
            answer = f"WAIT {why}"
        except Exception as error:  # the daemon shows it, and sends the event again
            answer = f"ERROR {type(error).__name__}: {error}"
        print(" ".join(answer.split()), flush=True)


def read(path):
    """The token in a file, without comments; read for each event, so that it can be replaced."""
    with open(path, encoding="utf-8") as file:
        return "".join(line for line in file if not line.startswith("#")).strip()


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token must not follow a redirect to another server."""

    def redirect_request(self, *_):
        return None


def call(method, url, headers, body=None, form=None, ca=None):
    """The status and the JSON that a server answers. 2xx and what is wrong with a request come back; that the server has
    trouble, wants to be left alone or lets us not in, is raised."""
    context = ssl.create_default_context(cafile=ca)
    opener = urllib.request.build_opener(NoRedirects, urllib.request.HTTPSHandler(context=context))
    headers = {"User-Agent": "banstream", "Accept": "application/json", **headers}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    elif form is not None:
        data, headers["Content-Type"] = form.encode(), "application/x-www-form-urlencoded"
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return response.status, parsed(response.read())
    except urllib.error.HTTPError as response:
        status, text = response.code, response.read()
        after = seconds(response.headers.get("Retry-After"))
    why = f"the server answered {status}: {text[:200].decode(errors='replace')}"
    if status in (429, 503) and after is not None:
        raise Wait(after, why)
    if status in (401, 403, 408, 429) or status < 400 or status >= 500:
        raise RuntimeError(why)
    return status, parsed(text)


def parsed(text):
    """The JSON of an answer, which may have none."""
    return json.loads(text) if text.strip() else None


def seconds(after):
    """How long a server asks to wait: a number of seconds, or a date."""
    try:
        return int(after)
    except (TypeError, ValueError):
        pass
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        return max(0, int((email.utils.parsedate_to_datetime(after) - now).total_seconds()))
    except (TypeError, ValueError):
        return None


def lasts(ban):
    """Until when a ban lasts, as text that can be compared."""
    return ban["until"] or "forever"


def longest(*times):
    """The last of these times; `forever` stands behind all digits in the alphabet."""
    return max(times)
