#!/bin/bash
# publish.sh SERVER CHANNEL EVENT_ID < text
set -euo pipefail

# publish CHANNEL EVENT_ID < text
publish() {
    local id
    id=$(printf %s "$1" | od -An -v -tx1 | tr -d '\n' | tr ' ' %)
    curl -fsS --max-time 5 -o /dev/null -H "Event-Id: $2" --data-binary @- "$server/pub?id=$id"
}

server=$1
publish "$2" "$3"
