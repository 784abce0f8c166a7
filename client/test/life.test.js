// The page and the line: who notices what, with time passed in.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { watchPage } from '../build/page.js';
import { Silence } from '../build/silence.js';

test('silence is measured by the pings', () => {
  const s = new Silence(0);
  assert.equal(s.isOver(1e9, false), false, 'no ping yet, so nothing is known');
  s.heard(30_000, true);
  assert.equal(s.isOver(104_000, false), false);
  assert.equal(s.isOver(106_000, false), true);
  s.heard(106_000, false);
  assert.equal(s.isOver(180_000, false), false);
  s.heard(136_000, true);
  s.heard(137_000, true);
  assert.equal(s.isOver(211_000, false), false, 'a short gap does not shorten the limit');
});

test('frequent pings, a hidden page, a limit of its own', () => {
  const s = new Silence(0);
  s.heard(100, true);
  assert.equal(s.isOver(20_000, false), false);
  assert.equal(s.isOver(20_200, false), true);
  assert.equal(s.isOver(20_200, true), false);
  assert.equal(s.isOver(75_200, true), true);
  assert.equal(new Silence(0, 500).isOver(501, false), true);
});

function page() {
  const window = Object.assign(new EventTarget(), { document: Object.assign(new EventTarget(), { visibilityState: 'visible' }) });
  const calls = [];
  let now = 0;
  const names = ['offline', 'online', 'doubt', 'away', 'back'];
  const sink = Object.fromEntries(names.map(name => [name, () => calls.push(name)]));
  return {
    window, calls, sink,
    now: () => now,
    pass: msec => (now += msec),
    fire: (target, type, more) => target.dispatchEvent(Object.assign(new Event(type), more)),
    see(state) {
      window.document.visibilityState = state;
      window.document.dispatchEvent(new Event('visibilitychange'));
    },
    taken: () => calls.splice(0),
  };
}

test('the network goes and comes', () => {
  const p = page();
  watchPage(p.window, p.sink, p.now);
  p.fire(p.window, 'offline');
  p.fire(p.window, 'online');
  assert.deepEqual(p.taken(), ['offline', 'online']);
});

test('only the back/forward cache counts', () => {
  const p = page();
  watchPage(p.window, p.sink, p.now);
  p.fire(p.window, 'pagehide', { persisted: false });
  p.fire(p.window, 'pageshow', { persisted: false });
  assert.deepEqual(p.taken(), []);
  p.fire(p.window, 'pagehide', { persisted: true });
  p.fire(p.window, 'pageshow', { persisted: true });
  assert.deepEqual(p.taken(), ['away', 'back']);
});

test('a page that was hidden for long, or frozen, doubts', () => {
  const p = page();
  watchPage(p.window, p.sink, p.now);
  p.see('hidden');
  p.pass(29_000);
  p.see('visible');
  assert.deepEqual(p.taken(), ['back']);
  p.see('hidden');
  p.pass(31_000);
  p.see('visible');
  assert.deepEqual(p.taken(), ['back', 'doubt']);
  p.fire(p.window.document, 'resume');
  assert.deepEqual(p.taken(), ['doubt']);
});

test('a hidden page is put aside only if the page wants it', async () => {
  const p = page();
  const end = watchPage(p.window, p.sink, p.now, 1);
  p.see('hidden');
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(p.taken(), ['away']);
  p.see('hidden');
  end();
  p.see('visible');
  p.fire(p.window, 'offline');
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(p.taken(), [], 'and nothing after the end');
});
