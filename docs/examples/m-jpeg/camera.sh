#!/bin/bash
# Publishes a picture as often as a command makes one.   camera.sh URL COMMAND...
# The command writes a JPEG file to its output, such as:  camera.sh "$url" fswebcam -q -
set -euo pipefail

url=$1
shift
while "$@" | curl -fsS --max-time 5 -o /dev/null --data-binary @- "$url"; do
    sleep "${PAUSE:-0.2}"
done
echo "camera.sh: no picture, or it could not be published" >&2
exit 1
