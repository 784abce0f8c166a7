#!/usr/bin/env python3
"""publish.py SERVER CHANNEL EVENT_ID < text"""
import http.client
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def publish(server, channel, text, event_id):
    request = urllib.request.Request(
        f'{server}/pub?id={urllib.parse.quote(channel, safe="")}',
        data=text.encode(), headers={'Event-Id': event_id}, method='POST')
    with urllib.request.urlopen(request, timeout=5) as response:  # raises HTTPError if the status is not 2xx
        return response.read()


def publish_surely(server, channel, text, event_id):
    """Tries again where that may help. The message may arrive twice, with the same event id."""
    for pause in 0.2, 1, 5, None:
        try:
            return publish(server, channel, text, event_id)
        except urllib.error.HTTPError as error:
            if error.code < 500 or pause is None:
                raise
        except (OSError, http.client.HTTPException):  # no answer: nobody knows whether it was published
            if pause is None:
                raise
        time.sleep(pause)


if __name__ == '__main__':
    publish_surely(sys.argv[1], sys.argv[2], sys.stdin.buffer.read().decode(), sys.argv[3])
