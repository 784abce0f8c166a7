// The whole subscriber, with a fetch that the test answers.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { PushError, Subscriber } from '../build/index.js';

const retry = { min: 1, max: 2 };
let open = [];
afterEach(() => open.splice(0).forEach(s => s.close()));

/** Answers requests with the functions in turn, and the last one for ever. Returns the requests. */
function server(...answers) {
  const requests = [];
  globalThis.fetch = async (url, init) => {
    const answer = answers[Math.min(requests.length, answers.length - 1)];
    requests.push({ url: new URL(url), headers: new Headers(init.headers), ...init });
    return answer(init);
  };
  return requests;
}

/** An event stream with these events; `end`: and then its end. */
const stream = (events, { end = true, headers = {} } = {}) => ({ signal }) => {
  const bytes = new TextEncoder();
  return new Response(new ReadableStream({
    start(controller) {
      for (const event of events) controller.enqueue(bytes.encode(event));
      if (end) controller.close();
      else signal.addEventListener('abort', () => controller.error(new Error('aborted')));
    },
  }), { headers: { 'Content-Type': 'text/event-stream; charset=utf-8', ...headers } });
};

const event = (id, { channel = 'a', text = `text ${id}`, cursor = `p1-${id}-1` } = {}) =>
  `id: ${cursor}\ndata: ${JSON.stringify({ id, channel, cursor, time: 1764367200 + id, tag: 1, event_id: null, event_type: null, text })}\n\n`;

const subscriber = (options = {}) => {
  const s = new Subscriber('http://server/', { channels: ['a'], transports: ['fetch'], retry, ...options });
  const got = { message: [], gap: [], deleted: [], error: [], state: [], open: [] };
  for (const type of Object.keys(got)) s.on(type, e => got[type].push(e));
  open.push(s);
  return { s, got };
};

const until = async (condition, what = 'something') => {
  for (let n = 0; n < 1000; n++) {
    if (condition()) return;
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  assert.fail(`waited for ${what}`);
};

test('goes on with the cursor of the newest message, told in the header and in the argument', async () => {
  const requests = server(stream([': \nid: p1-0-0\n\n', event(1), event(2)]), stream([event(3)]), stream([], { end: false }));
  const { s, got } = subscriber({ channels: ['a', { id: 'b c', backtrack: 5 }] });
  await until(() => got.open.length === 3);
  assert.deepEqual(got.message.map(m => m.text), ['text 1', 'text 2', 'text 3']);
  assert.deepEqual(requests.map(r => r.url.href), [
    'http://server/ev/a/b%20c.b5', 'http://server/ev/a/b%20c?eventid=p1-2-1', 'http://server/ev/a/b%20c?eventid=p1-3-1',
  ]);
  assert.deepEqual(requests.map(r => r.headers.get('Last-Event-Id')), [null, 'p1-2-1', 'p1-3-1']);
  assert.deepEqual(got.open.map(o => o.resumed), [false, true, true]);
  assert.deepEqual(got.gap, []);
  assert.deepEqual(got.error, []);
  assert.equal(s.cursor, 'p1-3-1');
  assert.equal(s.state, 'open');
});

test('the place at the beginning of the stream is enough to go on', async () => {
  const requests = server(stream([': \nid: p1-0-7\n\n']), stream([], { end: false }));
  const { got } = subscriber();
  await until(() => got.open.length === 2);
  assert.equal(requests[1].url.searchParams.get('eventid'), 'p1-0-7');
});

test('without cursors: time and tag, in the header too', async () => {
  const requests = server(stream([event(1, { cursor: '' })]), stream([event(2, { cursor: '' })]), stream([], { end: false }));
  const { got } = subscriber();
  await until(() => got.open.length === 3);
  assert.equal(requests[1].url.search, '?time=Fri%2C%2028%20Nov%202025%2022%3A00%3A01%20GMT&tag=1');
  assert.equal(requests[1].headers.get('If-Modified-Since'), 'Fri, 28 Nov 2025 22:00:01 GMT');
});

test('without cursors, a cut among old messages loses none of them', async () => {
  const headers = { Date: 'Fri, 28 Nov 2025 23:00:00 GMT' };
  const requests = server(stream([], { headers }), stream([event(1, { cursor: '' })], { headers }), stream([event(2, { cursor: '' })], { end: false }));
  const { got } = subscriber({ channels: [{ id: 'a', backtrack: 5 }] });
  await until(() => got.open.length === 3);
  assert.deepEqual(requests.map(r => r.url.pathname + r.url.search), [
    '/ev/a.b5', '/ev/a.b5', '/ev/a?time=Fri%2C%2028%20Nov%202025%2022%3A00%3A01%20GMT&tag=1',
  ]);
});

test('several channels without cursors: asks for a little more, and drops what it had', async () => {
  const old = [event(1, { cursor: '' }), event(9, { channel: 'b', cursor: '' })];
  const requests = server(stream(old), stream([...old, event(10, { cursor: '', channel: 'b' })]), stream([], { end: false }));
  const { got } = subscriber({ channels: ['a', 'b'] });
  await until(() => got.open.length === 3);
  assert.equal(requests[1].url.search, '?time=Fri%2C%2028%20Nov%202025%2022%3A00%3A07%20GMT&tag=0');
  assert.deepEqual(got.message.map(m => m.id), [1, 9, 10]);
});

test('asks for headers and arguments before each attempt; once more at once after a 401', async () => {
  let asked = 0;
  const requests = server(() => new Response('', { status: 401 }), stream([event(1)]), stream([], { end: false }));
  const { got } = subscriber({
    retry: { min: 1, max: 1, refused: false },
    headers: async () => ({ Authorization: `token ${++asked}` }),
    params: async () => ({ p: String(asked) }),
  });
  await until(() => got.open.length === 2);
  assert.deepEqual(requests.map(r => r.headers.get('Authorization')), ['token 1', 'token 2', 'token 3']);
  assert.equal(got.error[0].status, 401);
});

test('a second 401 is a refusal', async () => {
  const requests = server(() => new Response('', { status: 401 }));
  const { s } = subscriber({ retry: { ...retry, refused: false } });
  await until(() => s.state === 'closed');
  assert.equal(requests.length, 2);
});

test('a mistake of the page closes it, and the loop gets the error', async () => {
  for (const answer of [
    () => new Response('', { status: 400, headers: { 'X-Nginx-PushStream-Explain': 'No channel id provided.' } }),
    () => new Response('<html>', { headers: { 'Content-Type': 'text/html' } }),
  ]) {
    server(answer);
    const { s, got } = subscriber();
    await assert.rejects(async () => {
      for await (const _ of s);
    }, { kind: 'refused' });
    assert.equal(s.state, 'closed');
    assert.equal(got.error.length, 1);
  }
});

test('a server in trouble is asked again, on the next transport', async () => {
  const requests = server(
    () => new Response('<html>', { status: 502 }),
    () => Promise.reject(new TypeError('network')),
    stream([event(1)], { end: false }),
  );
  const { got } = subscriber({ transports: ['fetch', 'longpolling'] });
  await until(() => got.message.length);
  assert.deepEqual(requests.map(r => r.url.pathname), ['/ev/a', '/lp/a', '/ev/a']);
  assert.deepEqual(got.error.map(e => [e.kind, e.status]), [['network', 502], ['network', undefined]]);
  assert.deepEqual(got.state.map(s => s.state), ['connecting', 'waiting', 'connecting', 'waiting', 'connecting', 'open']);
});

test('what is missing: by the ids, by the header, and in the stream', async () => {
  const told = JSON.stringify({ id: -4, channel: 'a', cursor: null, time: 0, tag: 0, event_id: null, event_type: 'gap', text: '{"channel":"a","reason":"evicted","missed":12}' });
  server(
    stream([event(1, { cursor: '' })]),
    stream([event(4, { cursor: '' })], { headers: { 'X-Nginx-PushStream-Gap': 'expired' } }),
    stream([`event: gap\ndata: ${told}\n\n`, event(17)]),
    // Told again, because nothing new came: that is no news.
    stream([`event: gap\ndata: {"channel":"b","reason":"unknown","missed":null}\n\n`]),
    stream([`event: gap\ndata: {"channel":"b","reason":"unknown","missed":null}\n\n`]),
    stream([], { end: false }),
  );
  const { got } = subscriber();
  await until(() => got.open.length === 6);
  assert.deepEqual(got.gap, [
    { channel: 'a', missed: 2, reason: 'expired' },
    { channel: 'a', reason: 'evicted', missed: 12 },
    { channel: 'b', reason: 'unknown' },
  ]);
});

test('what only a header tells is told, too', async () => {
  const poll = () => new Response(null, { status: 304, headers: { 'X-Nginx-PushStream-Gap': 'unknown' } });
  server(poll, ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted')))));
  const { got } = subscriber({ transports: ['longpolling'] });
  await until(() => got.gap.length);
  assert.deepEqual(got.gap, [{ channel: 'a', reason: 'unknown' }]);
});

test('a deleted channel', async () => {
  server(stream([event(5), `data: {"id":-2,"channel":"a","text":"Channel deleted"}\n\n`, event(1)]), stream([], { end: false }));
  const { got } = subscriber();
  await until(() => got.message.length === 2);
  assert.deepEqual(got.deleted, [{ channel: 'a' }]);
  assert.deepEqual(got.gap, []);
});

test('what is no message is reported and skipped', async () => {
  server(stream(['data: <p>\n\n', 'data: {"a":1}\n\n', event(1)], { end: false }));
  const { got } = subscriber();
  await until(() => got.message.length);
  assert.deepEqual(got.error.map(e => e.kind), ['format', 'format']);
});

test('lines of JSON in a stream of another type', async () => {
  const line = event(1).replace(/^[^]*data: /, '').trim();
  server(init => {
    const answer = stream(['\n\n' + line.slice(0, 9), line.slice(9) + '\n', '{"half'], { end: false })(init);
    answer.headers.set('Content-Type', 'application/x-ndjson');
    return answer;
  });
  const { got } = subscriber();
  await until(() => got.message.length);
  assert.equal(got.message[0].text, 'text 1');
});

test('a long poll that is answered with nothing new does not ask at once', async () => {
  for (const answer of ['{"id":1,"channel":"a","text":"x","time":1764367200,"tag":1}', '<html>', '{}', '']) {
    const requests = server(() => new Response('{"id":1,"channel":"a","text":"x","time":1764367200,"tag":1}'), () => new Response(answer));
    const { got, s } = subscriber({ transports: ['longpolling'], channels: ['a', 'b'], retry: { min: 60_000, max: 60_000 } });
    await until(() => s.state === 'waiting' && got.error.length);
    assert.equal(got.message.length, 1);
    assert.equal(requests.length, 2);
    assert.equal(got.error[0].kind, 'format');
  }
});

test('a long poll that always comes back at once is asked for later and later', async () => {
  const requests = server(async () => {
    await new Promise(setImmediate);
    return new Response(null, { status: 304, headers: { 'X-Nginx-PushStream-Cursor': 'p1-0-9' } });
  });
  const { got } = subscriber({ transports: ['longpolling'], retry: { min: 60_000, max: 60_000 } });
  await until(() => got.state.some(({ state }) => state === 'waiting') || requests.length > 100);
  assert.equal(requests.length, 1);
  assert.deepEqual(got.error, []);
});

test('a poll with something that is no message goes on behind it', async () => {
  const requests = server(
    () => new Response('{"half', { headers: { 'X-Nginx-PushStream-Cursor': 'p1-1-1' } }),
    ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted')))),
  );
  const { got } = subscriber({ transports: ['longpolling'] });
  await until(() => requests.length === 2);
  assert.equal(requests[1].url.search, '?eventid=p1-1-1');
  assert.deepEqual(got.error.map(e => e.kind), ['format']);
});

test('a listener may close it, whatever it is told', async () => {
  for (const type of ['state', 'open', 'message', 'gap', 'error', 'deleted']) {
    server(() => new Response('', { status: 503 }), stream([
      event(1), 'data: <p>\n\n', 'event: gap\ndata: {"channel":"a","reason":"slow","missed":1}\n\n', 'data: {"id":-2,"channel":"a"}\n\n', event(2),
    ], { end: false }));
    const { s, got } = subscriber();
    s.on(type, () => s.close());
    await until(() => s.state === 'closed', type);
    const before = JSON.stringify(got);
    await new Promise(resolve => setTimeout(resolve, 20));
    assert.equal(JSON.stringify(got), before, `${type}: nothing comes behind`);
    assert.equal(got.state[got.state.length - 1].state, 'closed');
    assert.ok(got.message.length < 2);
  }
});

test('the cursor of a message is the place behind it', async () => {
  server(stream([event(1), event(2), event(3, { cursor: '' })], { end: false }));
  const { s, got } = subscriber();
  await until(() => got.message.length === 3);
  assert.deepEqual(got.message.map(m => m.cursor).slice(0, 2), ['p1-1-1', 'p1-2-1']);
  assert.equal(got.message[2].cursor, s.cursor);
});

test('long polls take their place from messages, or from the header', async () => {
  const poll = (status, cursor, text) => () => new Response(text ?? null, { status, headers: { 'X-Nginx-PushStream-Cursor': cursor } });
  const message = (id, channel) => JSON.stringify({ id, channel, text: 'x', cursor: `p1-${id}-1` }) + '\n';
  const requests = server(
    poll(304, 'p1-0-9'),
    poll(200, 'p1-2-1', message(1, 'a') + message(2, 'a')),
    ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted')))),
  );
  const { got } = subscriber({ transports: ['longpolling'] });
  await until(() => requests.length === 3);
  assert.deepEqual(requests.map(r => r.url.searchParams.get('eventid')), [null, 'p1-0-9', 'p1-2-1']);
  assert.deepEqual(got.message.map(m => m.id), [1, 2]);
});

test('a loop that is slow stops the reading, and leaving it closes the subscriber', async () => {
  let sent = 0;
  let aborted = false;
  server(({ signal }) => {
    signal.addEventListener('abort', () => (aborted = true));
    return new Response(new ReadableStream({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode(event(++sent)));
      },
    }, { highWaterMark: 0 }), { headers: { 'Content-Type': 'text/event-stream' } });
  });
  const { s } = subscriber();
  const ids = [];
  for await (const { id } of s) {
    if (!ids.length) {
      await until(() => sent >= 1000);
      await new Promise(resolve => setTimeout(resolve, 50));
      assert.ok(sent <= 1002, `${sent} read`);
    }
    ids.push(id);
    if (id === 3000) break;
  }
  assert.deepEqual(ids, Array.from({ length: 3000 }, (_, n) => n + 1));
  assert.equal(s.state, 'closed');
  await until(() => aborted);
});

test('a listener that throws is seen, and stops nothing', async () => {
  const seen = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = f => {
    try {
      f();
    } catch (error) {
      seen.push(error.message);
    }
  };
  server(stream([event(1), event(2)], { end: false }));
  const { s, got } = subscriber();
  s.on('message', ({ id }) => {
    throw new Error(`mine ${id}`);
  });
  await until(() => seen.length === 2);
  globalThis.queueMicrotask = queueMicrotask;
  assert.deepEqual(seen, ['mine 1', 'mine 2']);
  assert.equal(got.message.length, 2);
});

test('add, remove, off, signals and close', async () => {
  const requests = server(stream([event(1)], { end: false }));
  const control = new AbortController();
  const { s, got } = subscriber({ signal: control.signal });
  await until(() => got.message.length === 1);
  s.add('b', 3);
  s.add('b', 3);
  await until(() => got.open.length === 2);
  assert.equal(requests[1].url.pathname, '/ev/a/b.b3');
  s.remove('a');
  await until(() => got.open.length === 3);
  assert.equal(requests[2].url.pathname, '/ev/b');
  s.remove('b');
  await until(() => s.state === 'waiting');
  const off = s.on('state', () => assert.fail('off'));
  off();
  control.abort();
  assert.equal(s.state, 'closed');
  assert.equal(requests.length, 3);
  await s.close();
  const done = new Subscriber('http://server', { channels: ['a'], signal: AbortSignal.abort() });
  assert.equal(done.state, 'closed');
  assert.deepEqual(await done[Symbol.asyncIterator]().next(), { value: undefined, done: true });
});

test('publishes', async () => {
  const requests = server(
    () => new Response('{"channel": "b c", "published_messages": 1, "stored_messages": 1, "subscribers": 0}\r\n'),
    () => new Response(''),
    () => new Response('', { status: 403, headers: { 'X-Nginx-PushStream-Explain': 'No.' } }),
  );
  const { s } = subscriber({ signal: AbortSignal.abort(), params: () => ({ k: 'v' }) });
  assert.equal((await s.publish('b c', 'x', { eventId: 'e', eventType: 't' })).published_messages, 1);
  assert.equal(requests[0].url.href, 'http://server/pub?id=b%20c&k=v');
  assert.equal(requests[0].headers.get('Event-Id'), 'e');
  assert.equal(await s.publish('a', 'x'), undefined);
  await assert.rejects(s.publish('a', 'x'), error => error instanceof PushError && error.status === 403 && error.explain === 'No.');
});
