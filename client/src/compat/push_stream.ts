// The compatible face: the API of the old client, on the transports of the new one. A page works by replacing the file.

import { PushError } from '../error.ts';
import { objects, type Fields } from '../message.ts';
import { nativeEventsource } from '../transports/eventsource.ts';
import type { Line } from '../transports/line.ts';
import { websocket } from '../transports/websocket.ts';
import { hiddenFrame, type FrameWindow } from './frame.ts';
import { defaults, MODES, type PushStreamOptions, type Settings } from './options.ts';
import { jsonp, pausingPoll } from './polls.ts';

const CLOSED = 0, CONNECTING = 1, OPEN = 2;
const DELETED = -2;
/** A poll shows nothing when it begins to wait, so it counts as open after this time. */
const POLL_OPEN_MSEC = 150;
const LOG_LINES = 100;
const LEVELS = ['error', 'info', 'debug'];

export interface Wrapper {
  type: 'WebSocket' | 'EventSource' | 'Stream' | 'LongPolling';
  /** Of a hidden frame that waits for its document. */
  register?: (frame: FrameWindow) => void;
}

/** All instances, in the order of their creation. */
export const PushStreamManager: PushStream[] = [];

export interface PushStream extends PushStreamOptions {}

export class PushStream {
  static CLOSED: number = CLOSED;
  static CONNECTING: number = CONNECTING;
  static OPEN: number = OPEN;
  static LOG_LEVEL: string = 'error';
  /** Element that receives the last lines of the log. */
  static LOG_OUTPUT_ELEMENT_ID: string = 'Log4jsLogOutput';

  /** The streamed document calls it. */
  static register(frame: FrameWindow): void {
    const [, id] = /[?&]streamid=(\d+)/.exec(frame.location.href) ?? [];
    PushStreamManager[Number(id)]?.wrapper?.register?.(frame);
  }

  /** Streamed documents of old servers call it at their end. */
  static reset(): void {}

  static sendMessage(url: string, text: string, onSuccess?: (() => void) | null, onError?: ((status: number) => void) | null): void {
    fetch(url, {
      method: 'POST',
      body: encodeURIComponent(text),
      headers: { Accept: 'application/json', 'Content-Type': 'application/x-www-form-urlencoded' },
    }).then(
      ({ status }) => (status === 200 ? onSuccess?.() : onError?.(status)),
      () => onError?.(0),
    );
  }

  id: number;
  readyState: number = CLOSED;
  channels: Record<string, { backtrack?: number }> = {};
  channelsCount: number = 0;
  modes: string[];
  /** Those that this browser has, in the order of the modes. */
  wrappers: Wrapper[];
  wrapper: Wrapper | null = null;

  private _turn = 0;
  private _isWanted = false;
  private _retry: ReturnType<typeof setTimeout> | undefined;
  private _control: AbortController | undefined;
  private _line: Line | undefined;
  private _lastTag: string | number = 0;
  private _lastTime: string | null = null;
  private _lastEventId: string | null = null;
  /** Newest (time, tag) of each channel. A browser's EventSource repeats messages when it connects again. */
  private _had: Map<string, [number, number]> = new Map();

  constructor(settings: Settings = {}) {
    this.id = PushStreamManager.push(this) - 1;
    const own = defaults(!!settings.useSSL);
    for (const key of Object.keys(own) as (keyof PushStreamOptions)[]) Object.assign(own, { [key]: settings[key] ?? own[key] });
    Object.assign(this, own);
    this.useJSONP ||= isCrossDomain(this._url(this.urlPrefixPublisher));
    this.messagesControlByArgument ||= this.useJSONP;
    this.modes = (settings.modes ?? MODES).split('|');
    const usable: Record<string, Wrapper['type'] | false> = {
      websocket: 'WebSocket' in globalThis && 'WebSocket',
      eventsource: 'EventSource' in globalThis && 'EventSource',
      stream: 'Stream',
      longpolling: 'LongPolling',
    };
    this.wrappers = this.modes.flatMap(mode => (usable[mode] ? [{ type: usable[mode] }] : []));
  }

  addChannel(id: string, options: { backtrack?: number } = {}): void {
    if (encodeURIComponent(id) !== id) throw `Invalid channel name: ${id}`;
    if (this.channels[id]) throw `Channel was added already: ${id}`;
    this.channels[id] = options;
    this.channelsCount++;
    if (this.readyState !== CLOSED) this.connect();
  }

  removeChannel(id: string): void {
    if (!this.channels[id]) return;
    delete this.channels[id];
    this.channelsCount--;
  }

  removeAllChannels(): void {
    this.channels = {};
    this.channelsCount = 0;
  }

  connect(): void {
    if (!this.host) throw 'A host must be specified';
    if (isNaN(this.port)) throw 'A port must be specified';
    if (!this.channelsCount) throw 'No channels specified';
    if (!this.wrappers.length) throw 'No available support for this set of modes';
    this._stop();
    this._isWanted = true;
    this._attempt();
  }

  disconnect(): void {
    this._isWanted = false;
    this._stop();
  }

  sendMessage(text: string, onSuccess?: (() => void) | null, onError?: ((status: number) => void) | null): void {
    if (this.readyState === OPEN && this._line?.send) {
      this._line.send(encodeURIComponent(text));
      onSuccess?.();
    } else {
      const channels = Object.keys(this.channels).map(id => '/' + id).join('');
      PushStream.sendMessage(`${this._url(this.urlPrefixPublisher)}?id=${channels}&_=${Date.now()}`, text, onSuccess, onError);
    }
  }

  private _stop(): void {
    this._end();
    this._had.clear();
    this._setState(CLOSED);
  }

  /** Ends the attempt under way and the wait for the next one. */
  private _end(): void {
    clearTimeout(this._retry);
    this._retry = undefined;
    this._control?.abort();
    this._control = this._line = undefined;
  }

  private _setState(state: number): void {
    if (this.readyState === state) return;
    this.readyState = state;
    log('info', 'state', state);
    this.onstatuschange?.(state);
  }

  private _attempt(): void {
    this._end();
    const control = (this._control = new AbortController());
    const isOver = () => control.signal.aborted;
    const wrapper: Wrapper = (this.wrapper = this.wrappers[this._turn % this.wrappers.length]!);
    this._begin();
    let wasOpen = false;
    const line: Line = (this._line = {
      signal: control.signal,
      request: () => this._request(wrapper),
      open: () => {
        if (isOver() || wasOpen) return;
        wasOpen = true;
        this._setState(OPEN);
      },
      take: text => {
        if (!isOver()) this._takeBatch(objects(text), wrapper);
        return true;
      },
      polled: response => {
        if (isOver() || this.messagesControlByArgument) return;
        this._lastTime = response.headers.get('Last-Modified') ?? this._lastTime;
        this._lastTag = response.headers.get('Etag') ?? this._lastTag;
      },
      heard() {},
      place() {},
      room() {},
    });
    this._setState(CONNECTING);
    // The page may have called connect() or disconnect() in its callback.
    if (isOver()) return;
    this._connect(wrapper, line).catch(error => error).then(error => {
      if (isOver()) return;
      const isLoad = this.readyState === CONNECTING || error?.status === 403 ||
        (wrapper.type === 'WebSocket' && error?.kind === 'network');
      if (!wasOpen) this._turn++;
      this._end();
      this._setState(CLOSED);
      this._reconnectAfter(isLoad ? this.reconnectOnChannelUnavailableInterval : this.reconnectOnTimeoutInterval);
      const type = isLoad ? 'load' : 'timeout';
      log('error', type, error instanceof PushError ? error.message : error ?? '');
      this.onerror?.({ type });
    });
  }

  /** A server that was restarted should not get everybody back in one moment. */
  private _reconnectAfter(interval: number): void {
    if (!this.autoReconnect || !this._isWanted || this._retry || this.readyState === CONNECTING) return;
    this._retry = setTimeout(() => this._attempt(), interval * (0.8 + 0.4 * Math.random()));
  }

  private _connect(wrapper: Wrapper, line: Line): Promise<void> {
    const name = `PushStreamManager_${this.id}`;
    switch (wrapper.type) {
      case 'WebSocket':
        return websocket(line);
      case 'EventSource':
        return nativeEventsource(line);
      case 'Stream':
        return hiddenFrame(
          line, name, this,
          (id, channel, text, eventid, time, tag) => this._take(this._named({ id, channel, text, eventid, time, tag }), true, wrapper),
          register => (wrapper.register = register),
        );
      case 'LongPolling': {
        const timer = setTimeout(line.open, POLL_OPEN_MSEC);
        const polls = this.useJSONP
          ? jsonp(line, this.timeout, name, callback => this._address(wrapper, callback), batch => line.signal.aborted || this._takeBatch(batch, wrapper))
          : pausingPoll(line, this.timeout);
        return polls.finally(() => clearTimeout(timer));
      }
    }
  }

  // ---- where we are

  /** Fills in a place that the page has named, if there is none from messages yet. */
  private _begin(): void {
    const after = this.messagesPublishedAfter;
    this._lastEventId ??= this.lastEventId;
    if (this._lastTime === null && after) {
      const date = after instanceof Date ? after : new Date(after < 0 ? 0 : Date.now() - after * 1000);
      this._lastTime = date.toUTCString();
    }
  }

  private _url(prefix: string): string {
    const { useSSL, host, port } = this;
    return `http${useSSL ? 's' : ''}://${host}${port === (useSSL ? 443 : 80) ? '' : ':' + port}${prefix}`;
  }

  private _address(wrapper: Wrapper, callback?: string): string {
    const byArgument = this.messagesControlByArgument;
    const hasPlace = byArgument && (this._lastTime || this._lastEventId);
    const list = Object.entries(this.channels)
      .map(([id, { backtrack }]) => id + (backtrack && !hasPlace ? '.b' + backtrack : ''))
      .join('/');
    const prefix = {
      WebSocket: this.urlPrefixWebsocket,
      EventSource: this.urlPrefixEventsource,
      Stream: this.urlPrefixStream,
      LongPolling: this.urlPrefixLongpolling,
    }[wrapper.type];
    const isPoll = wrapper.type === 'LongPolling';
    const now = { _: String(Date.now()) };
    const place = {
      [this.tagArgument]: byArgument && this._lastTag,
      [this.timeArgument]: byArgument && this._lastTime,
      [this.eventIdArgument]: byArgument && !this._lastTime && this._lastEventId,
    };
    const all = {
      ...(this.channelsByArgument && { [this.channelsArgument]: list }),
      ...this.extraParams?.(),
      ...(isPoll ? place : now),
      ...(wrapper.type === 'Stream' && { streamid: this.id }),
      ...(isPoll ? { ...(callback && { callback }), ...now } : place),
    };
    const query = Object.entries(all).map(([key, value]) => `${key}=${encodeURIComponent(value || (key === 'streamid' ? '0' : ''))}`);
    return `${this._url(prefix)}${this.channelsByArgument ? '' : '/' + list}?${query.join('&')}`;
  }

  private _request(wrapper: Wrapper): { url: string; headers: Record<string, string> } {
    const headers: Record<string, string> = {};
    if (wrapper.type === 'LongPolling' && !this.messagesControlByArgument) {
      if (this._lastTime) {
        headers['If-None-Match'] = String(this._lastTag);
        headers['If-Modified-Since'] = this._lastTime;
      } else if (this._lastEventId) headers['Last-Event-Id'] = this._lastEventId;
    }
    return { url: this._address(wrapper), headers };
  }

  // ---- messages

  private _named({ id, channel, text, eventid, time, tag }: Fields): Fields {
    return {
      [this.jsonIdKey]: id,
      [this.jsonChannelKey]: channel,
      [this.jsonTextKey]: text,
      [this.jsonEventIdKey]: eventid,
      [this.jsonTimeKey]: time,
      [this.jsonTagKey]: tag,
    };
  }

  private _takeBatch(batch: (Fields | undefined)[], wrapper: Wrapper): void {
    batch.forEach((one, at) => this._take(one, wrapper.type !== 'LongPolling' || at === batch.length - 1, wrapper));
  }

  private _take(from: Fields | undefined, isLast: boolean, wrapper: Wrapper): void {
    if (!from) return log('error', 'no message');
    const id = from[this.jsonIdKey] as number;
    const channel = from[this.jsonChannelKey] as string;
    const eventid = String(from[this.jsonEventIdKey] ?? from.event_id ?? '');
    const tag = from[this.jsonTagKey] as string | number;
    let time = from[this.jsonTimeKey] as string | number;
    // `push_stream_message_format json` has seconds, and its own name for the event id.
    if (typeof time === 'number') time = time > 0 ? new Date(time * 1000).toUTCString() : '';
    if (id === DELETED) return this.onchanneldeleted?.(channel);
    if (!(id > 0)) return;
    if (time && tag !== undefined && tag !== '' && this._hadBefore(channel, Date.parse(time), Number(tag))) return;
    if (wrapper.type !== 'LongPolling' || (this.messagesControlByArgument && isLast)) {
      if (tag !== undefined) this._lastTag = tag;
      if (time) this._lastTime = time;
    }
    if (eventid) this._lastEventId = eventid;
    log('debug', 'message', channel, id);
    this.onmessage?.(decoded(from[this.jsonTextKey]), id, channel, eventid, isLast, time);
  }

  private _hadBefore(channel: string, time: number, tag: number): boolean {
    const [lastTime, lastTag] = this._had.get(channel) ?? [0, 0];
    if (time < lastTime || (time === lastTime && tag <= lastTag)) return true;
    this._had.set(channel, [time, tag]);
    return false;
  }
}

/** Old clients publish encoded text. Text of others may have a % of its own. */
function decoded(text: unknown): unknown {
  if (typeof text !== 'string') return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const isCrossDomain = (url: string) => new URL(url, location.href).origin !== location.origin;

const lines: string[] = [];
function log(level: string, ...words: unknown[]): void {
  if (LEVELS.indexOf(level) > LEVELS.indexOf(PushStream.LOG_LEVEL)) return;
  const line = [new Date().toISOString(), level, ...words].join(' ');
  console[level as 'error'](line);
  const element = document.getElementById(PushStream.LOG_OUTPUT_ELEMENT_ID);
  if (!element) return;
  lines.push(line);
  lines.splice(0, lines.length - LOG_LINES);
  element.textContent = lines.join('\n');
}
