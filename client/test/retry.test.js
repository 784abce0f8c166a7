import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PushError, refusal } from '../build/error.js';
import { delay } from '../build/retry.js';

const low = () => 0;
const high = () => 0.999999;
const network = new PushError('network');

test('full jitter that doubles up to a bound', () => {
  assert.deepEqual([0, 1, 2, 3, 10, 2000].map(n => Math.round(delay(network, n, {}, high))), [500, 1000, 2000, 4000, 20000, 20000]);
  assert.equal(delay(network, 5, {}, low), 0);
  assert.equal(Math.round(delay(undefined, 3, { min: 10, max: 50 }, high)), 50);
});

test('the server may want a longer wait, but not one for ever', () => {
  assert.equal(delay(refusal(503, '', '7'), 1, {}, low), 7000);
  assert.equal(delay(refusal(429, '', '99999999999'), 1, {}, low), 3600_000);
  assert.equal(delay(refusal(503, '', 'Tue, 05 May 2026 09:08:07 GMT'), 1, {}, low), 0);
});

test('a refusal that may heal is asked again after about a minute', () => {
  for (const status of [401, 403, 404]) {
    assert.equal(delay(refusal(status), 1, {}, low), 45000);
    assert.equal(Math.round(delay(refusal(status), 9, {}, high)), 75000);
    assert.equal(delay(refusal(status), 1, { refused: false }, low), undefined);
  }
});

test('a mistake of the page ends it', () => {
  for (const status of [400, 405, 200, 301, 204]) assert.equal(delay(refusal(status), 1, {}, low), undefined, String(status));
});

test('so many attempts', () => {
  assert.equal(delay(network, 2, { attempts: 3 }, low), 0);
  assert.equal(delay(network, 3, { attempts: 3 }, low), undefined);
});
