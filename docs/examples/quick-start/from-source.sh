#!/bin/bash
# Builds the module for Debian's nginx and installs it, where its package would put it. Run it in the project's directory.
set -euo pipefail

scripts/setup
sudo install -Dm 644 -t /usr/lib/nginx/modules "$(scripts/build | tail -n 1)"
echo 'load_module modules/ngx_http_push_stream_module.so;' |
    sudo tee /etc/nginx/modules-enabled/50-mod-http-push-stream.conf
