// The file that takes the place of the old one: defines PushStream and PushStreamManager.

import { PushStream as Client, PushStreamManager as Manager } from './compat/push_stream.ts';

declare global {
  var PushStream: typeof Client;
  var PushStreamManager: Client[];
}
declare const module: { exports: unknown } | undefined;

if (!globalThis.PushStream) {
  globalThis.PushStream = Client;
  globalThis.PushStreamManager = Manager;
  if (typeof module !== 'undefined') module.exports = Object.assign(Client, { PushStream: Client, PushStreamManager: Manager });
}
