// One request after the other. Each waits for a message.

import { PushError } from '../error.ts';
import { ask } from './ask.ts';
import type { Connect } from './line.ts';

export const longpoll: Connect = async line => {
  for (;;) {
    const response = await ask(line);
    line.open(response);
    // A poll without news comes back after as long as pings are apart.
    line.heard(response.status === 304);
    // An answer without news must not lead to the next question at once: it is a page of somebody else, or what we had.
    if (response.status === 200 && !line.take(await response.text())) throw new PushError('format', 200);
    line.polled(response);
    await line.room();
    if (line.signal.aborted) return;
  }
};
