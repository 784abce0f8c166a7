// The options of the old client, with its defaults.

export type Callback<A extends unknown[]> = ((...all: A) => void) | null;

export interface PushStreamOptions {
  useSSL: boolean;
  host: string;
  port: number;
  /** Milliseconds, as all times here. */
  timeout: number;
  pingtimeout: number;
  reconnectOnTimeoutInterval: number;
  reconnectOnChannelUnavailableInterval: number;
  autoReconnect: boolean;
  lastEventId: string | null;
  /** Since this date, or so many seconds ago, or, if it is negative, all. */
  messagesPublishedAfter: Date | number | undefined;
  messagesControlByArgument: boolean;
  tagArgument: string;
  timeArgument: string;
  eventIdArgument: string;
  useJSONP: boolean;
  urlPrefixPublisher: string;
  urlPrefixStream: string;
  urlPrefixEventsource: string;
  urlPrefixLongpolling: string;
  urlPrefixWebsocket: string;
  jsonIdKey: string;
  jsonChannelKey: string;
  jsonTextKey: string;
  jsonTagKey: string;
  jsonTimeKey: string;
  jsonEventIdKey: string;
  channelsByArgument: boolean;
  channelsArgument: string;
  onmessage: Callback<[text: unknown, id: number, channel: string, eventid: string, isLastMessageFromBatch: boolean, time: string]>;
  onchanneldeleted: Callback<[channel: string]>;
  onerror: Callback<[error: { type: 'load' | 'timeout' }]>;
  onstatuschange: Callback<[state: number]>;
  extraParams: (() => Record<string, string>) | null;
}

/** What `new PushStream(settings)` takes; `modes` is the preference, such as `websocket|longpolling`. */
export type Settings = Partial<PushStreamOptions> & { modes?: string };

export const MODES = 'eventsource|websocket|stream|longpolling';

export const defaults = (useSSL: boolean): PushStreamOptions => ({
  useSSL,
  host: location.hostname,
  port: useSSL ? 443 : 80,
  timeout: 30000,
  pingtimeout: 30000,
  reconnectOnTimeoutInterval: 3000,
  reconnectOnChannelUnavailableInterval: 60000,
  autoReconnect: true,
  lastEventId: null,
  messagesPublishedAfter: undefined,
  messagesControlByArgument: false,
  tagArgument: 'tag',
  timeArgument: 'time',
  eventIdArgument: 'eventid',
  useJSONP: false,
  urlPrefixPublisher: '/pub',
  urlPrefixStream: '/sub',
  urlPrefixEventsource: '/ev',
  urlPrefixLongpolling: '/lp',
  urlPrefixWebsocket: '/ws',
  jsonIdKey: 'id',
  jsonChannelKey: 'channel',
  jsonTextKey: 'text',
  jsonTagKey: 'tag',
  jsonTimeKey: 'time',
  jsonEventIdKey: 'eventid',
  channelsByArgument: false,
  channelsArgument: 'channels',
  onmessage: null,
  onchanneldeleted: null,
  onerror: null,
  onstatuschange: null,
  extraParams: null,
});
