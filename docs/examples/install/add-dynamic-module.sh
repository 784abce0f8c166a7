#!/bin/bash
# Builds the module in an unpacked release of nginx, which is the current directory. The argument is the directory of
# the module's source.
set -euo pipefail
push_stream=$1

./configure --with-compat --add-dynamic-module="$push_stream"
make modules
