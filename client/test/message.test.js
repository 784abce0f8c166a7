import assert from 'node:assert/strict';
import { test } from 'node:test';
import { messages } from '../build/message.js';

const only = text => {
  const found = messages(text);
  assert.equal(found.length, 1);
  return found[0];
};

test('the JSON of the module', () => {
  const m = only('{"id":7,"channel":"news","cursor":"p1-2-3","time":1764367200,"tag":3,"event_id":"e","event_type":null,"text":"{\\"a\\":1}"}');
  assert.equal(m.id, 7);
  assert.equal(m.channel, 'news');
  assert.equal(m.cursor, 'p1-2-3');
  assert.equal(+m.time, 1764367200000);
  assert.equal(m.tag, 3);
  assert.equal(m.eventId, 'e');
  assert.equal(m.eventType, '');
  assert.deepEqual(m.json(), { a: 1 });
});

test('the template of old pages', () => {
  const m = only('{"id":7,"channel":"news","text":"100 %","tag":"3","time":"Tue, 05 May 2026 09:08:07 GMT","eventid":""}');
  assert.equal(m.text, '100 %');
  assert.equal(m.time.toISOString(), '2026-05-05T09:08:07.000Z');
  assert.equal(m.tag, 3);
  assert.equal(m.cursor, '');
});

test('text that is any JSON, or bytes', () => {
  assert.deepEqual(only('{"id":1,"channel":"a","text":{"b":[1]}}').json(), { b: [1] });
  assert.equal(only('{"id":1,"channel":"a","text":false}').text, 'false');
  assert.deepEqual([...only('{"id":1,"channel":"a","base64":"/wA="}').bytes()], [255, 0]);
  assert.deepEqual([...only('{"id":1,"channel":"a","text":"\u00e9"}').bytes()], [195, 169]);
});

test('the lines of one text are one message; other messages are others', () => {
  const three = messages('{"id":4,"channel":"a","text":"one"}\n{"id":4,"channel":"a","text":"two"}\n{"id":4,"channel":"b","text":"x"}');
  assert.deepEqual(three.map(m => m.text), ['one\ntwo', 'x']);
});

test('a gap in both its forms', () => {
  for (const text of [
    '{"channel":"news","reason":"evicted","missed":12}',
    '{"id":-4,"channel":"news","cursor":null,"time":0,"tag":0,"event_id":null,"event_type":"gap","text":"{\\"channel\\":\\"news\\",\\"reason\\":\\"evicted\\",\\"missed\\":12}"}',
  ]) {
    const m = only(text);
    assert.equal(m.id, -4);
    assert.deepEqual(m.json(), { channel: 'news', reason: 'evicted', missed: 12 });
  }
});

test('what is no message', () => {
  for (const text of ['<html>', '1', 'null', '[]', '{}', '{"id":"x"}', '{"id":0}', '{"id":1.5}', '{"id":1,"base64":"%"}', '{"half']) {
    assert.equal(only(text), undefined, text);
  }
  assert.deepEqual(messages('{"id":1,"channel":"a","text":"x"}<p>').map(m => m?.text), ['x', undefined]);
  assert.deepEqual(messages(''), []);
});
