#!/usr/bin/env python3
"""A site in small, which nginx asks about subscribers.   site.py PORT"""
import sys
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import sign

SESSIONS = {'4f1c': '7', '9b2e': '8'}  # session: user
MEMBERS = {'board': {'7'}, 'news': {'7', '8'}}  # channel: users


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        session = SimpleCookie(self.headers.get('Cookie', '')).get('session')
        user = SESSIONS.get(session.value) if session else None
        channel = self.headers.get('X-Channel', '')
        if self.path == '/may-listen':
            self.answer(401 if not user else 200 if user in MEMBERS.get(channel, ()) else 403)
        elif self.path == '/check-token':
            self.answer(200 if sign.is_good(self.headers.get('X-Token', ''), channel) else 401)
        elif self.path.startswith('/token-for/'):
            wanted = self.path.removeprefix('/token-for/')
            self.answer(200, sign.token(wanted, 60)) if user in MEMBERS.get(wanted, ()) else self.answer(403)
        else:
            self.answer(404)

    def answer(self, status, text=''):
        self.send_response(status)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Site).serve_forever()
