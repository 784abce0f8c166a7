// The file for a page without modules. Defines PushStream and PushStreamManager, and PushStream.Subscriber, the modern face.

import { PushStream, PushStreamManager } from './compat/push_stream.ts';
import { Subscriber } from './subscriber.ts';

declare const module: { exports: unknown } | undefined;

const page = globalThis as unknown as Record<string, unknown>;
if (!page.PushStream) {
  Object.assign(PushStream, { PushStream, PushStreamManager, Subscriber });
  Object.assign(page, { PushStream, PushStreamManager });
  if (typeof module !== 'undefined') module.exports = PushStream;
}
