// The client, with its state shown in the bar at the top.

import { Subscriber } from '/client/index.js';
import { say } from '/frame.js';

const TRANSPORTS = { fetch: 'fetch', websocket: 'WebSocket', longpolling: 'long polling', eventsource: 'EventSource' };

// A subscriber of this server whose state the bar shows.
export function subscribe(options) {
    const subscriber = new Subscriber(location.origin, options);
    subscriber.on('state', ({ state }) => state !== 'open' && say(state));
    subscriber.on('open', ({ transport }) => say('open', TRANSPORTS[transport]));
    return subscriber;
}
