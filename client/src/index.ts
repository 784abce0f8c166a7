export { PushError, type ErrorKind } from './error.ts';
export type { Message } from './message.ts';
export type { Gap } from './position.ts';
export type { Retry } from './retry.ts';
export { Subscriber, type ChannelInfo, type Events, type Options, type State, type Transport } from './subscriber.ts';
