import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Position } from '../build/position.js';

const T = Date.UTC(2026, 4, 5, 9, 8, 7);
const date = msec => new Date(msec).toUTCString();
const message = (channel, id, time, tag, cursor = '', eventId = '') => ({ channel, id, time: new Date(time), tag, cursor, eventId });

test('nothing seen, nothing asked', () => {
  const p = new Position();
  assert.deepEqual(p.ask(1), {});
  assert.equal(p.cursor, '');
  assert.equal(p.isKnown, false);
});

test('the cursor of the server', () => {
  const p = new Position('p1-1-1');
  assert.deepEqual(p.ask(3), { eventid: 'p1-1-1' });
  p.move(message('a', 5, T, 1, 'p1-2-1'));
  assert.deepEqual(p.ask(1), { eventid: 'p1-2-1' });
  assert.equal(p.cursor, 'p1-2-1');
  assert.equal(p.had(message('a', 5, T, 1, 'p1-2-1'), 2), false);
});

test('one channel without cursors goes on exactly', () => {
  const p = new Position();
  p.move(message('a', 5, T, 3));
  assert.deepEqual(p.ask(1), { time: date(T), tag: '3' });
});

test('several channels without cursors go back a little, but not before the beginning', () => {
  const p = new Position();
  p.move(message('a', 5, T, 3));
  p.move(message('b', 1, T + 1000, 1));
  assert.deepEqual(p.ask(2), { time: date(T), tag: '3' });
  p.move(message('a', 6, T + 9000, 1));
  assert.deepEqual(p.ask(2), { time: date(T + 7000), tag: '0' });
  assert.equal(p.had(message('a', 6, T + 9000, 1), 2), true);
  assert.equal(p.had(message('a', 1, T, 1), 1), false, 'with one channel nothing comes twice, so this is a server that was started anew');
  assert.equal(p.had(message('b', 2, T + 8000, 1), 2), false, 'overtaken, not had');
});

test('since the beginning of time is a time', () => {
  assert.deepEqual(new Position('', new Date(0)).ask(1), { time: 'Thu, 01 Jan 1970 00:00:01 GMT', tag: '0' });
});

test('since, and a beginning that the server names', () => {
  assert.deepEqual(new Position(undefined, new Date(T)).ask(1), { time: date(T), tag: '0' });
  const p = new Position();
  p.begin(NaN, 0);
  assert.deepEqual(p.ask(1), {});
  p.begin(T, 4);
  p.begin(T + 5000, 0);
  assert.deepEqual(p.ask(2), { time: date(T), tag: '4' });
});

test('old messages that come behind the beginning or behind newer ones', () => {
  const p = new Position();
  p.begin(T + 9000, 0);
  p.move(message('a', 5, T, 3));
  assert.deepEqual(p.ask(1), { time: date(T), tag: '3' });
  p.move(message('b', 5, T - 5000, 1));
  p.move(message('a', 6, T, 4));
  assert.deepEqual(p.ask(2), { time: date(T - 2000), tag: '0' });
});

test('a template without time: goes on at an event id, or nowhere', () => {
  const p = new Position();
  p.move(message('a', 5, NaN, 0));
  assert.deepEqual(p.ask(2), {});
  assert.equal(p.had(message('a', 6, NaN, 0), 2), false);
  p.move(message('a', 6, NaN, 0, '', 'e6'));
  assert.deepEqual(p.ask(1), { eventid: 'e6' });
  assert.deepEqual(p.move(message('a', 9, NaN, 0)), { channel: 'a', missed: 2 });
  assert.deepEqual(p.ask(1), {});
});

test('the ids tell what is missing', () => {
  const p = new Position();
  assert.equal(p.move(message('a', 5, T, 3)), undefined, 'the first one');
  assert.equal(p.move(message('a', 6, T, 4)), undefined, 'the next one');
  assert.deepEqual(p.move(message('a', 10, T, 9)), { channel: 'a', missed: 3 });
  assert.equal(p.move(message('b', 9, T, 10)), undefined, 'another channel');
  assert.deepEqual(p.move(message('a', 1, T + 1000, 1)), { channel: 'a' }, 'made again');
  p.settle('a');
  p.settle('c');
  assert.equal(p.move(message('a', 7, T + 2000, 1)), undefined, 'told already');
});

test('a later subscriber goes on with the word', () => {
  const p = new Position();
  p.move(message('a', 5, T, 3));
  p.move(message('b', 1, T + 9000, 1));
  const q = new Position(p.cursor);
  assert.deepEqual(q.ask(2), p.ask(2));
  assert.equal(q.had(message('b', 1, T + 9000, 1), 2), true);
  assert.deepEqual(q.move(message('a', 7, T + 9500, 1)), { channel: 'a', missed: 1 });
  assert.equal(q.cursor.startsWith('['), true);
});

test('a word that is none', () => {
  for (const word of ['', '[', '[1', 'null', '{}']) assert.doesNotThrow(() => new Position(word).ask(2), word);
  assert.deepEqual(new Position('[').ask(1), {});
});
