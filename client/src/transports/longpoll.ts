// One request after the other. Each waits for a message.

import { PushError } from '../error.ts';
import { ask } from './ask.ts';
import type { Connect } from './line.ts';

/** Nobody sees a poll begin to wait. After so long without a refusal it does. */
const OPEN_MSEC = 1000;

export const longpoll: Connect = async line => {
  const timer = setTimeout(line.open, OPEN_MSEC);
  for (;;) {
    const began = Date.now();
    const response = await ask(line).finally(() => clearTimeout(timer));
    line.open(response);
    // A poll without news comes back after as long as pings are apart.
    line.heard(response.status === 304);
    const isNews = response.status === 304 || line.take(await response.text());
    line.polled(response);
    // The next question comes at once only if it is another one. This is somebody else's page, or what we had.
    if (!isNews && !response.headers.has('X-Nginx-PushStream-Cursor')) throw new PushError('format', 200);
    // This one has not waited: a location of another kind, or a cache. So the next attempt has to.
    if (line.signal.aborted || (response.status === 304 && Date.now() - began < OPEN_MSEC)) return;
  }
};
