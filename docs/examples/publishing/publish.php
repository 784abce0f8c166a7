#!/usr/bin/env php
<?php
// publish.php SERVER CHANNEL EVENT_ID < text

function publish(CurlHandle $curl, string $server, string $channel, string $text, string $eventId): void
{
    curl_setopt_array($curl, [
        CURLOPT_URL => $server . '/pub?id=' . rawurlencode($channel),
        CURLOPT_POSTFIELDS => $text,
        CURLOPT_HTTPHEADER => ["Event-Id: $eventId"],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 5,
    ]);
    if (curl_exec($curl) === false) {
        throw new RuntimeException(curl_error($curl));
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($status !== 200) {
        throw new RuntimeException("not published: status $status");
    }
}

try {
    publish(curl_init(), $argv[1], $argv[2], stream_get_contents(STDIN), $argv[3]);
} catch (RuntimeException $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
