#!/usr/bin/env python3
"""Publishes its input piece by piece, as it comes.   some-model | answer.py 127.0.0.1:9081 ID"""
import codecs
import http.client
import os
import sys


def publish_answer(pieces, server, channel):
    """Publishes each piece as one message, and "done" or "failed" at the end, over one connection."""
    connection = http.client.HTTPConnection(server, timeout=5)

    def publish(text, headers):
        for attempt in 1, 2:
            try:
                connection.request('POST', f'/pub?id={channel}', text.encode(), headers)
                response = connection.getresponse()
                response.read()
                break
            except ConnectionError:  # nginx closes connections when it is reloaded, and idle ones
                connection.close()
                if attempt == 2:
                    raise
        if response.status != 200:
            raise OSError(f'{response.status} {response.getheader("X-Nginx-PushStream-Explain")}')

    try:
        for piece in pieces:
            if piece:  # an empty message is refused
                publish(piece, {})
    except Exception:
        publish('The answer could not be completed.', {'Event-Type': 'failed'})
        raise
    publish('done', {'Event-Type': 'done'})


def pieces_of(descriptor):
    """What can be read at the moment, again and again. A character is never cut in two."""
    decoder = codecs.getincrementaldecoder('utf-8')()
    while data := os.read(descriptor, 4096):
        yield decoder.decode(data)
    decoder.decode(b'', final=True)


if __name__ == '__main__':
    publish_answer(pieces_of(0), sys.argv[1], sys.argv[2])
