#!/usr/bin/env python3
"""Makes signed URLs and tokens.   sign.py link CHANNEL SECONDS | sign.py token CHANNEL SECONDS"""
import base64
import hashlib
import hmac
import sys
import time

LINK_SECRET = 'replace-this-secret'  # the one in nginx's configuration
TOKEN_SECRET = b'replace-this-one-too'


def signed_url(channel, seconds):
    expires = int(time.time()) + seconds
    path = f'/links/{channel}'
    digest = hashlib.md5(f'{expires}{path} {LINK_SECRET}'.encode()).digest()
    return f'{path}?expires={expires}&md5={base64.urlsafe_b64encode(digest).decode().rstrip("=")}'


def signature(channel, expires):
    return hmac.new(TOKEN_SECRET, f'{channel} {expires}'.encode(), hashlib.sha256).hexdigest()


def token(channel, seconds):
    expires = int(time.time()) + seconds
    return f'{expires}.{signature(channel, expires)}'


def is_good(token, channel):
    expires, _, given = token.partition('.')
    return expires.isdigit() and int(expires) > time.time() and hmac.compare_digest(given, signature(channel, expires))


if __name__ == '__main__':
    make = {'link': signed_url, 'token': token}[sys.argv[1]]
    print(make(sys.argv[2], int(sys.argv[3])))
