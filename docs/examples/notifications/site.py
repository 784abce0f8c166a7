#!/usr/bin/env python3
"""A site in small: tells nginx whose session a cookie is.   site.py PORT"""
import sys
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SESSIONS = {'4f1c': '7', '9b2e': '8'}  # session: user


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        session = SimpleCookie(self.headers.get('Cookie', '')).get('session')
        user = SESSIONS.get(session.value) if session else None
        self.send_response(200 if user else 401)
        if user:
            self.send_header('X-User', user)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Site).serve_forever()
