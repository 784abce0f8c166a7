import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventReader, LINE_MAX, lineReader, split } from '../build/frames.js';

/** Every way to cut a text in two, and each letter alone. */
function* cuts(text) {
  for (let at = 0; at <= text.length; at++) yield [text.slice(0, at), text.slice(at)];
  yield [...text];
}

test('lines end with LF, CR or CRLF, wherever the chunks are cut', () => {
  for (const chunks of cuts('one\ntwo\r\nthree\rfour\n\nfive\r\n\r\nrest')) {
    const lines = [];
    chunks.forEach(lineReader(line => lines.push(line)));
    assert.deepEqual(lines, ['one', 'two', 'three', 'four', '', 'five', ''], JSON.stringify(chunks));
  }
});

test('a line without end is given up', () => {
  const read = lineReader(() => assert.fail());
  const megabyte = 'x'.repeat(1 << 20);
  assert.throws(() => {
    for (let size = 0; size <= LINE_MAX; size += megabyte.length) read(megabyte);
  }, { kind: 'overflow' });
});

const read = chunks => {
  const got = [];
  const line = eventReader({
    event: data => got.push(['event', data]),
    place: id => got.push(['place', id]),
    comment: text => got.push(['comment', text]),
  });
  chunks.forEach(lineReader(line));
  return got;
};

test('events, however they are cut', () => {
  const stream = ': \nid: p1-2-3\n\nid: e9\nevent: upd\ndata: one\ndata:two\ndata\n\n: -1\nevent: x\n\ndata: {"a":1}\r\n\r\nretry: 5\nunknown: 1\ndata:  x\n\ndata: cut';
  for (const chunks of cuts(stream)) {
    assert.deepEqual(read(chunks), [
      ['comment', ''], ['place', 'p1-2-3'], ['event', 'one\ntwo\n'], ['comment', '-1'], ['event', '{"a":1}'], ['event', ' x'],
    ], JSON.stringify(chunks));
  }
});

test('an event without end is given up', () => {
  const line = eventReader({ event() {}, place() {}, comment() {} });
  const data = 'data: ' + 'x'.repeat(1 << 20);
  assert.throws(() => {
    for (let n = 0; n < 20; n++) line(data);
  }, { kind: 'overflow' });
});

test('random bytes break nothing', () => {
  let seed = 1;
  const random = n => (seed = (seed * 16807) % 2147483647) % n;
  for (let round = 0; round < 2000; round++) {
    const text = Array.from({ length: random(60) }, () => 'id: data{}"\\\n\r[]1,'[random(18)]).join('');
    read([text.slice(0, random(60)), text.slice(random(60))]);
    assert.equal(split(text).join(''), text.slice(0, split(text).join('').length));
  }
});

test('objects that follow each other', () => {
  const cases = [
    ['', []],
    [' \n ', []],
    ['{"a":1}', ['{"a":1}']],
    ['{"a":1}{"b":2}\n{"c":{}}\n', ['{"a":1}', '{"b":2}', '\n{"c":{}}']],
    ['{"t":"}{"}{"t":"\\"}{"}', ['{"t":"}{"}', '{"t":"\\"}{"}']],
    ['{"a":1}}{"b":2}', ['{"a":1}', '}{"b":2}']],
    ['{"a":1}<html>', ['{"a":1}', '<html>']],
    ['{"half', ['{"half']],
  ];
  for (const [text, pieces] of cases) assert.deepEqual(split(text), pieces, text);
});
