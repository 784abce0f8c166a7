#!/bin/sh
# Does a message that is published here arrive there? For streams, event streams and long polls.
#
#   check.sh PUBLISHER SUBSCRIBER    addresses up to the channel, such as http://127.0.0.1/pub?id= http://127.0.0.1/sub/
#
# It uses a channel of its own.

channel=check-$$
got=$(mktemp)
curl -siN --max-time 20 "$2$channel" >"$got" &
listener=$!
trap 'kill $listener 2>/dev/null; rm -f "$got"' EXIT

# Waits until the command succeeds, up to 10 seconds, and not when nobody listens any more.
until_true() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] && kill -0 $listener 2>/dev/null || { "$@"; return; }
        sleep 0.1
    done
}
listens() { curl -s "$1$channel" | grep -q '"subscribers": [1-9]'; }
arrived() { grep -q "hello, $channel" "$got"; }

if ! until_true listens "$1"; then
    echo "nobody listens at $2; the answer was:"
    sed -n '1p; /^X-Nginx-PushStream-Explain/p' "$got"
    exit 1
fi
status=$(curl -s -o /dev/null -w '%{http_code}' --data-binary "hello, $channel" "$1$channel")
if [ "$status" != 200 ]; then
    echo "the publish was answered by $status"
    exit 1
fi
if ! until_true arrived; then
    echo "the message did not arrive"
    exit 1
fi
echo "ok: $2"
