// The ways to subscribe, with what a browser has and nothing else. Each function begins at `cursor`, if there is one,
// calls `got(message)` for each message and `lost(reason)` if the server ends it or says that something is gone, and
// returns a function that cuts it. Messages are JSON (push_stream_message_format json).

import { token } from '/frame.js';

const POLL_MSEC = 2000;

// Browsers open six connections for each name of a server, and wait with the seventh without a word. WebSockets do not
// count. Some of the ways below use the other name of this machine, if the page has been opened by one of the two.
const NAMES = { 'localhost': '127.0.0.1', '127.0.0.1': 'localhost' };
const neighbour = new URL(location.origin);
neighbour.hostname = NAMES[location.hostname] ?? location.hostname;

const address = (path, cursor, more = {}) => {
    const query = new URLSearchParams({ ...more, ...(cursor && { eventid: cursor }) });
    return `${path}?${query}`;
};

// ids below zero are no messages: a ping, the end, a gap.
function take(text, got, lost) {
    const message = JSON.parse(text);
    if (message.id > 0) got(message);
    else if (message.id === -4) lost('gap');
}

export function webSocket(channel, cursor, got, lost) {
    const url = new URL(address(`/ws/${channel}`, cursor), location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    socket.onmessage = event => take(event.data, got, lost);
    socket.onclose = () => lost('end');
    return () => { socket.onclose = null; socket.close(); };
}

// The browser connects again by itself, with the id of the last event, which is the cursor.
export function eventSource(channel, cursor, got, lost) {
    const source = new EventSource(address(`/ev/${channel}`, cursor));
    source.onmessage = event => take(event.data, got, lost);
    source.addEventListener('gap', () => lost('gap'));
    return () => source.close();
}

async function readLines(url, signal, line) {
    const answer = await fetch(url, { signal, cache: 'no-store' });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) return;
        const lines = (rest + value).split('\n');
        rest = lines.pop();
        lines.filter(Boolean).forEach(line);
    }
}

function reading(url, line, lost) {
    const controller = new AbortController();
    readLines(url, controller.signal, line).then(() => lost('end'), () => controller.signal.aborted || lost('end'));
    return () => controller.abort();
}

// The body of a response that does not end, a line of JSON for each message.
export function streaming(channel, cursor, got, lost) {
    return reading(address(`/lines/${channel}`, cursor), text => take(text, got, lost), lost);
}

// The same event stream that EventSource reads, as the client reads it with headers of its own.
export function fetchEvents(channel, cursor, got, lost) {
    return reading(address(`/ev/${channel}`, cursor), text => {
        if (text.startsWith('data: ')) take(text.slice(6), got, lost);
    }, lost);
}

// Asks again and again with the cursor of the answer before. A long poll waits for a message; a poll answers at once.
function asking(path, pause, origin = '') {
    return (channel, cursor, got, lost) => {
        const controller = new AbortController();
        const run = async () => {
            for (; !controller.signal.aborted; await new Promise(done => setTimeout(done, pause))) {
                const answer = await fetch(address(`${origin}${path}/${channel}`, cursor), { signal: controller.signal, cache: 'no-store' });
                if (!answer.ok && answer.status !== 304) throw new Error(`status ${answer.status}`);
                const text = await answer.text();
                if (controller.signal.aborted) return;
                text.split('\n').filter(Boolean).forEach(line => take(line, got, lost));
                cursor = answer.headers.get('X-Nginx-PushStream-Cursor') ?? cursor;
            }
        };
        run().catch(() => controller.signal.aborted || lost('end'));
        return () => controller.abort();
    };
}

export const longPolling = asking('/lp', 0, neighbour.origin);
export const polling = asking('/poll', POLL_MSEC);

// A script element for each answer: the way of browsers that could not ask other servers. The page may make such
// addresses by this policy only.
const policy = globalThis.trustedTypes?.createPolicy('push-stream', { createScriptURL: url => url });

export function jsonp(channel, cursor, got, lost) {
    let isCut = false;
    const ask = () => {
        if (isCut) return;
        const name = `answer_${token()}`;
        const script = document.createElement('script');
        const url = address(`${neighbour.origin}/jsonp/${channel}`, cursor, { callback: name });
        script.src = policy ? policy.createScriptURL(url) : url;
        const again = () => { delete globalThis[name]; script.remove(); ask(); };
        globalThis[name] = messages => {
            if (isCut) return;
            for (const message of messages) {
                cursor = message.cursor ?? cursor;
                if (message.id > 0) got(message);
                else if (message.id === -4) lost('gap');
            }
        };
        script.onload = again;
        script.onerror = () => setTimeout(again, POLL_MSEC);    // a long poll that found nothing, or no server
        document.head.append(script);
    };
    ask();
    return () => { isCut = true; };
}

// A hidden frame whose document never ends: each message is a script that calls this page.
const frames = new Map();
globalThis.fromFrame = (name, message) => frames.get(name)?.(message);

export function frame(channel, cursor, got, lost) {
    const name = token();
    frames.set(name, message => { if (message.id > 0) got(message); else if (message.id === -4) lost('gap'); });
    const made = document.createElement('iframe');
    made.title = 'Receives messages; nothing to see';
    made.src = address(`/frame/${channel}`, cursor, { name });
    made.onload = () => lost('end');
    document.body.append(made);
    return () => { frames.delete(name); made.onload = null; made.remove(); };
}
