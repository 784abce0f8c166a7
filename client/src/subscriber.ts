// The modern face: one subscriber that stays connected, and says what it gets and what it missed.
//
//   connecting ──► open ──► waiting ──► connecting ...
//        └──────────────────►┘
//   any ──► closed      by close(), the page's signal, or an error that will not heal

import { PushError, refusal } from './error.ts';
import { DELETED, GAP, fields, messages, PING, TIMEOUT, type Message } from './message.ts';
import { watchPage, type Page } from './page.ts';
import { Position, type Gap } from './position.ts';
import { delay, type Retry } from './retry.ts';
import { Silence } from './silence.ts';
import { eventsource } from './transports/eventsource.ts';
import { fetchStream } from './transports/fetch.ts';
import type { Connect, Line, Request } from './transports/line.ts';
import { longpoll } from './transports/longpoll.ts';
import { websocket } from './transports/websocket.ts';

export type Transport = 'fetch' | 'websocket' | 'longpolling' | 'eventsource';
export type State = 'connecting' | 'open' | 'waiting' | 'closed';

export interface Options {
  /** At least one. `backtrack` asks for so many old messages at the beginning. */
  channels: (string | { id: string; backtrack?: number })[];
  /** In the order in which they are tried. */
  transports?: Transport[];
  /**
   * Where the server has them, behind the base: `/ev`, `/ws`, `/lp`, `/ev` and `/pub?id=`. The channels follow, behind a
   * slash unless it ends with `=`.
   */
  locations?: Partial<Record<Transport | 'publish', string>>;
  /** Asked before each request. A WebSocket and an EventSource cannot send them. */
  headers?(): HeadersInit | Promise<HeadersInit>;
  /** More arguments of the URL, asked before each request. */
  params?(): Record<string, string> | Promise<Record<string, string>>;
  credentials?: RequestCredentials;
  /** The `cursor` of an earlier subscriber. */
  cursor?: string;
  /** Messages since then. Without cursor, since and backtrack: only what comes from now on. */
  since?: Date;
  retry?: Retry;
  /** Milliseconds without a byte after which the connection counts as dead. Else the server's pings tell. */
  silence?: number;
  /** Milliseconds after which a page that nobody sees is disconnected. Else it stays connected. */
  pauseHidden?: number;
  signal?: AbortSignal;
}

export interface Events {
  message: Message;
  open: { transport: Transport; resumed: boolean };
  gap: Gap;
  deleted: { channel: string };
  /** `delay`: milliseconds until the next attempt. */
  state: { state: State; delay?: number };
  error: PushError;
}

export interface ChannelInfo {
  channel: string;
  published_messages: number;
  stored_messages: number;
  subscribers: number;
}

const CONNECT: Record<Transport, Connect> = { fetch: fetchStream, websocket, longpolling: longpoll, eventsource };

const LOCATIONS: Record<Transport | 'publish', string> = {
  fetch: '/ev',
  eventsource: '/ev',
  websocket: '/ws',
  longpolling: '/lp',
  publish: '/pub?id=',
};

/** Messages that wait for an iterator. More are left at the server. */
const QUEUE_MAX = 1000;
const CONNECT_MSEC = 10_000;
/** A connection that lasted so long was a success. */
const UPTIME_MSEC = 5000;
const TICK_MSEC = 5000;
/** A timer that comes so late: the machine has slept. */
const LATE_MSEC = 30_000;

interface Channel {
  backtrack: number;
  /** It was in a connection that was open. */
  isKnown: boolean;
}

export class Subscriber implements AsyncIterable<Message> {
  private _state: State = 'waiting';
  private _transport: Transport | undefined;
  private _base: string;
  private _options: Options;
  private _transports: Transport[];
  private _channels: Map<string, Channel> = new Map();
  private _position: Position;
  private _listeners: Map<string, Set<(event: never) => void>> = new Map();
  private _queues: Set<Message[]> = new Set();
  /** Called and forgotten when the state, a queue or the page changes. */
  private _waiters: (() => void)[] = [];
  /** Ends the wait before the next attempt. */
  private _now: () => void = () => {};
  private _unwatch: () => void;
  /** Ends the attempt under way. */
  private _cut: (error?: PushError) => void = () => {};
  private _doubt: () => void = () => {};
  private _isAway = false;
  private _failures = 0;
  private _failure: PushError | undefined;
  private _toldGap = '';

  /** Connects at once. `base` is relative to the page; locations are behind it. */
  constructor(base: string | URL, options: Options) {
    this._base = new URL(base, globalThis.document?.baseURI).href.replace(/\/$/, '');
    this._options = options;
    this._transports = options.transports ?? usualTransports(!!options.headers);
    this._position = new Position(options.cursor, options.since);
    for (const channel of options.channels) {
      const { id, backtrack = 0 } = typeof channel === 'string' ? { id: channel } : channel;
      this._channels.set(id, { backtrack, isKnown: false });
    }
    this._unwatch = watchPage(globalThis as unknown as Page, {
      offline: () => this._cut(new PushError('network')),
      online: () => this.reconnect(),
      doubt: () => this._doubt(),
      away: () => {
        this._isAway = true;
        this._cut();
      },
      back: () => {
        if (this._isAway) {
          this._isAway = false;
          this.reconnect();
        }
      },
    }, Date.now, options.pauseHidden);
    const { signal } = options;
    signal?.addEventListener('abort', () => this.close());
    if (signal?.aborted) this.close();
    else this._run();
  }

  get state(): State {
    return this._state;
  }

  /** The transport of the newest attempt. */
  get transport(): Transport | undefined {
    return this._transport;
  }

  /** Opaque: give it to a later subscriber, and that goes on behind the last message of this one. */
  get cursor(): string {
    return this._position.cursor;
  }

  /** Calls `f` for each such event, until the returned function is called. */
  on<K extends keyof Events>(type: K, f: (event: Events[K]) => void, { signal }: { signal?: AbortSignal } = {}): () => void {
    const set = this._listeners.get(type) ?? new Set();
    this._listeners.set(type, set.add(f));
    const off = () => void set.delete(f);
    signal?.addEventListener('abort', off);
    return off;
  }

  /** One more channel. Connects anew. */
  add(channel: string, backtrack = 0): void {
    if (this._channels.has(channel)) return;
    this._channels.set(channel, { backtrack, isKnown: false });
    this.reconnect();
  }

  /** One channel less. Connects anew; without a channel it waits for one. */
  remove(channel: string): void {
    if (!this._channels.delete(channel)) return;
    this._position.forget(channel);
    this.reconnect();
  }

  /** Publishes. Rejects with a PushError if the server refuses. */
  async publish(channel: string, text: string, o: { eventId?: string; eventType?: string } = {}): Promise<ChannelInfo | undefined> {
    const { url, ...init } = await this._request('publish', [encodeURIComponent(channel)], {});
    const headers = new Headers(init.headers);
    if (o.eventId !== undefined) headers.set('Event-Id', o.eventId);
    if (o.eventType !== undefined) headers.set('Event-Type', o.eventType);
    const answer = await fetch(url, { ...init, method: 'POST', body: text, headers }).catch(() => {
      throw new PushError('network');
    });
    if (!answer.ok) throw refusal(answer.status, answer.headers.get('X-Nginx-PushStream-Explain'));
    return fields(await answer.text()) as ChannelInfo | undefined;
  }

  /** Connects anew, now. */
  reconnect(): void {
    this._failures = 0;
    this._cut();
    this._now();
    this._wake();
  }

  async close(): Promise<void> {
    if (this._state === 'closed') return;
    this._unwatch();
    this._become('closed');
    this._cut();
    this._now();
  }

  /** What comes from now on. Leaving the loop closes the subscriber. */
  [Symbol.asyncIterator](): AsyncIterator<Message> {
    const queue: Message[] = [];
    this._queues.add(queue);
    return this._drain(queue);
  }

  private async *_drain(queue: Message[]): AsyncGenerator<Message, void, undefined> {
    try {
      for (;;) {
        if (queue.length) {
          yield queue.shift()!;
          if (queue.length === QUEUE_MAX / 2) this._wake();
        } else if (this._state === 'closed') {
          if (this._failure) throw this._failure;
          return;
        } else await this._change();
      }
    } finally {
      this._queues.delete(queue);
      this.close();
    }
  }

  private async _run(): Promise<void> {
    // So that the page can add its listeners.
    await undefined;
    let turn = 0;
    let asked401 = false;
    while (this._state !== 'closed') {
      if (this._isAway || !this._channels.size || this._isFull()) {
        this._become('waiting');
        await this._change();
        continue;
      }
      const { error, wasOpen, wasGood, wasCut } = await this._attempt(this._transports[turn % this._transports.length]!);
      if (this._isClosed()) return;
      this._failures = wasGood ? 0 : this._failures + 1;
      if (error) this._emit('error', error);
      if (!error && wasCut) {
        this._failures = 0;
        continue;
      }
      if (!wasOpen && error?.kind !== 'refused') turn++;
      // A token may just have run out, and the next one be good.
      const isFirst401 = error?.status === 401 && !asked401;
      asked401 = error?.status === 401;
      if (isFirst401) continue;
      const wait = delay(error, this._failures, this._options.retry ?? {}, Math.random);
      if (wait === undefined) {
        this._failure = error;
        await this.close();
      } else if (!this._isClosed()) {
        this._become('waiting', wait);
        await new Promise<void>(resolve => {
          const timer = setTimeout(resolve, wait);
          this._now = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    }
  }

  private async _attempt(name: Transport): Promise<{ error: PushError | undefined; wasOpen: boolean; wasGood: boolean; wasCut: boolean }> {
    const began = Date.now();
    const silence = new Silence(began, this._options.silence);
    const control = new AbortController();
    const { signal } = control;
    let openedAt = 0;
    let gotNews = false;
    let wasCut = false;
    let isPaused = false;
    let error: PushError | undefined;
    this._transport = name;
    this._become('connecting');

    const unlessOver = <A extends unknown[]>(f: (...all: A) => void) => (...all: A) => {
      if (!signal.aborted) f(...all);
    };
    const line: Line = {
      signal,
      request: () => this._request(name, this._path(), this._position.ask(this._channels.size)),
      open: unlessOver(response => {
        const reason = response?.headers.get('X-Nginx-PushStream-Gap');
        // A location with cursors tells more of it in the stream.
        if (reason && (response!.status === 304 || !this._position.ask(1).eventid)) {
          this._gap({ channel: this._channels.size > 1 ? '' : [...this._channels.keys()][0]!, reason });
        }
        if (openedAt) return;
        openedAt = Date.now();
        const resumed = this._position.isKnown;
        if (response && response.status === 200) this._position.begin(Date.parse(response.headers.get('Date') ?? ''), 0);
        for (const channel of this._channels.values()) channel.isKnown = true;
        this._become('open');
        this._emit('open', { transport: name, resumed });
      }),
      take: text => {
        if (signal.aborted) return true;
        const isNews = this._take(text, silence);
        gotNews ||= isNews;
        if (name !== 'fetch' && this._isFull()) this._cut();
        return isNews;
      },
      heard: isPing => silence.heard(Date.now(), isPing),
      place: unlessOver(cursor => this._position.told(cursor)),
      polled: unlessOver(response => {
        const word = (header: string) => response.headers.get(header) ?? '';
        const cursor = word('X-Nginx-PushStream-Cursor');
        if (cursor) this._position.told(cursor);
        else this._position.begin(Date.parse(word('Last-Modified')), Number(word('Etag').replace('W/', '')));
      }),
      room: async () => {
        isPaused = true;
        while (this._isFull() && !signal.aborted) await this._change();
        isPaused = false;
      },
    };

    let lastTick = began;
    const timer = setInterval(() => {
      const now = Date.now();
      const isLate = now - lastTick > TICK_MSEC + LATE_MSEC;
      lastTick = now;
      if (isPaused) silence.heard(now, false);
      if (isLate) this._doubt();
      else if (!openedAt && now - began >= CONNECT_MSEC) this._cut(new PushError('network'));
      else if (openedAt) check(now);
    }, TICK_MSEC);
    const check = (now: number) => {
      if (silence.isOver(now, globalThis.document?.visibilityState === 'hidden')) this._cut(new PushError('silence'));
    };
    // fetch shows the server's pings, so there the clock of the silence tells. Others connect anew; nothing is lost.
    this._doubt = () => (name === 'fetch' ? check(Date.now()) : this._cut());

    await new Promise<void>(resolve => {
      this._cut = why => {
        error = why;
        wasCut = true;
        resolve();
      };
      CONNECT[name](line).catch(why => {
        error ??= why instanceof PushError ? why : new PushError('network', undefined, String(why));
      }).then(resolve);
    });
    this._cut = this._doubt = () => {};
    clearInterval(timer);
    control.abort();
    this._wake();
    return { error, wasCut, wasOpen: !!openedAt, wasGood: gotNews || (!!openedAt && Date.now() - openedAt > UPTIME_MSEC) };
  }

  private _path(): string[] {
    return [...this._channels].map(([id, { backtrack, isKnown }]) => {
      // The server does not look at the place for a channel with a backtrack.
      const isNew = backtrack && !(isKnown && this._position.isKnown);
      return encodeURIComponent(id) + (isNew ? `.b${backtrack}` : '');
    });
  }

  private async _request(name: Transport | 'publish', path: string[], place: Record<string, string>): Promise<Request> {
    const { headers, params, credentials, locations } = this._options;
    const location = locations?.[name] ?? LOCATIONS[name];
    const url = this._base + location + (location.endsWith('=') ? '' : '/') + path.join('/');
    // The server does not take + for a space, so no URLSearchParams.
    const query = Object.entries({ ...(await params?.()), ...place }).map(pair => pair.map(encodeURIComponent).join('=')).join('&');
    const all = new Headers(await headers?.());
    // For locations that do not look at the arguments.
    if (place.eventid) all.set('Last-Event-Id', place.eventid);
    else if (place.time) {
      all.set('If-Modified-Since', place.time);
      all.set('If-None-Match', `W/${place.tag}`);
    }
    return { url: query ? url + (url.includes('?') ? '&' : '?') + query : url, headers: all, ...(credentials && { credentials }) };
  }

  /** Hands the messages in a text on. Returns whether there was a new one, or another news. */
  private _take(text: string, silence: Silence): boolean {
    let gotNews = false;
    for (const message of messages(text)) {
      if (!message) this._emit('error', new PushError('format', undefined, text.slice(0, 100)));
      else if (message.id === PING || message.id === TIMEOUT) {
        silence.heard(Date.now(), true);
        gotNews ||= message.id === TIMEOUT;
      } else if (message.id === DELETED) {
        this._position.forget(message.channel);
        this._emit('deleted', { channel: message.channel });
        gotNews = true;
      } else if (message.id === GAP) {
        const { channel = '', reason, missed } = (fields(message.text) ?? {}) as Partial<Gap>;
        this._position.forget(channel);
        this._gap({ channel, ...(reason && { reason }), ...(typeof missed === 'number' && { missed }) });
      } else if (message.id > 0 && !this._position.had(message)) {
        gotNews = true;
        const gap = this._position.move(message);
        if (gap) this._gap(gap);
        this._emit('message', message);
        this._queues.forEach(queue => queue.push(message));
        this._wake();
      }
    }
    return gotNews;
  }

  private _gap(gap: Gap): void {
    // The server tells it again as long as we come back with the same place.
    const told = JSON.stringify([gap, this.cursor]);
    if (told !== this._toldGap) this._emit('gap', gap);
    this._toldGap = told;
  }

  private _isFull(): boolean {
    return [...this._queues].some(queue => queue.length >= QUEUE_MAX);
  }

  private _isClosed(): boolean {
    return this._state === 'closed';
  }

  private _become(state: State, wait?: number): void {
    if (state === this._state) return;
    this._state = state;
    this._emit('state', { state, ...(wait !== undefined && { delay: wait }) });
    this._wake();
  }

  private _emit<K extends keyof Events>(type: K, event: Events[K]): void {
    this._listeners.get(type)?.forEach(f => {
      try {
        (f as (event: Events[K]) => void)(event);
      } catch (error) {
        // The page's mistake must not stop the stream, but be seen.
        queueMicrotask(() => {
          throw error;
        });
      }
    });
  }

  private _wake(): void {
    this._waiters.splice(0).forEach(f => f());
  }

  private _change(): Promise<void> {
    return new Promise(resolve => this._waiters.push(resolve));
  }
}

/** WebSockets do not count among the six connections that a browser has to a host over HTTP/1.1, but send no headers. */
function usualTransports(hasHeaders: boolean): Transport[] {
  const [page] = (globalThis.performance?.getEntriesByType?.('navigation') ?? []) as PerformanceNavigationTiming[];
  if (hasHeaders) return ['fetch', 'longpolling'];
  return /^h[23]/.test(page?.nextHopProtocol ?? '') ? ['fetch', 'websocket', 'longpolling'] : ['websocket', 'fetch', 'longpolling'];
}
