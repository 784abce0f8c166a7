#!/usr/bin/env node
// publish.mjs SERVER CHANNEL EVENT_ID < text
import { readFileSync } from 'node:fs';

async function publish(server, channel, text, eventId) {
  const response = await fetch(`${server}/pub?id=${encodeURIComponent(channel)}`, {
    method: 'POST',
    body: text,
    headers: { 'Event-Id': eventId },
    signal: AbortSignal.timeout(5000),
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`not published: ${response.status} ${response.headers.get('X-Nginx-PushStream-Explain')}`);
  return JSON.parse(answer);
}

const [server, channel, eventId] = process.argv.slice(2);
await publish(server, channel, readFileSync(0), eventId);
