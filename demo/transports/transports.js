// The transports page: a lane for each way to subscribe, all to one channel of this page.

import { append, element, say, token } from '/frame.js';
import * as ways from '/transports/ways.js';

const LANES = [
    ['WebSocket', 'One connection, both ways, not counted among the six that a browser allows.', ways.webSocket],
    ['EventSource', 'Built into browsers. Comes back by itself with its place.', ways.eventSource],
    ['fetch', 'The same event stream, with headers of your own. What the client takes.', ways.fetchEvents],
    ['Streaming', 'An HTTP response that does not end. Also for curl.', ways.streaming],
    ['Long polling', 'A request waits for the next message. Passes every proxy.', ways.longPolling],
    ['Polling', 'A request each two seconds, answered at once.', ways.polling],
    ['JSONP', 'A script element for each answer. For pages from before CORS.', ways.jsonp],
    ['Forever iframe', 'A hidden document that never ends. For the oldest pages.', ways.frame],
];
const AGAIN_MSEC = 1000;

const at = id => document.getElementById(id);
const channel = `transports-${token()}`;
const sent = new Map();         // event id → when
let published = 0;
let lanes = [];

class Lane {
    #cut;
    #timer;

    constructor([name, words, way]) {
        this.way = way;
        this.got = new Set();
        this.log = element('ol', { class: 'log', 'aria-label': `Messages by ${name}`, tabindex: '0' });
        this.button = element('button', { type: 'button' }, 'Cut');
        this.count = element('span', { class: 'note' }, '');
        this.state = element('span', { class: 'unseen' }, '');
        this.button.addEventListener('click', () => (this.#cut ? this.cut() : this.connect()));
        at('lanes').append(element('section', { class: 'card lane', 'aria-label': name },
            element('h2', {}, name), element('p', { class: 'note' }, words), this.log,
            element('footer', {}, this.button, this.count)));
        this.connect();
    }

    connect() {
        const from = this.got.size;
        this.isBack = !!this.cursor;
        this.#cut = this.way(channel, this.cursor, message => this.take(message), reason => this.lose(reason));
        this.button.textContent = 'Cut';
        this.button.setAttribute('aria-label', 'Cut this transport');
        if (this.isBack) append(this.log, element('li', { class: 'note' }, `connected again after message ${from}`));
    }

    cut() {
        this.#cut();
        this.#cut = undefined;
        clearTimeout(this.#timer);
        this.button.textContent = 'Connect';
        append(this.log, element('li', { class: 'told' }, 'cut'));
    }

    take(message) {
        this.cursor = message.cursor;
        const isTwice = this.got.has(message.id);
        this.got.add(message.id);
        const since = sent.get(message.event_id);
        const delay = since === undefined ? '' : `${(performance.now() - since).toFixed(0)} ms`;
        append(this.log, element('li', isTwice ? { class: 'wrong' } : {},
            element('span', {}, message.text), element('span', { class: 'side' }, isTwice ? 'twice' : delay)), 100);
        this.count.textContent = `${this.got.size} of ${published}`;
    }

    lose(reason) {
        if (reason === 'gap') { append(this.log, element('li', { class: 'told' }, 'some messages are gone')); return; }
        append(this.log, element('li', { class: 'told' }, 'the server ended it'));
        this.#cut?.();
        this.#timer = setTimeout(() => this.connect(), AGAIN_MSEC * (1 + Math.random()));
    }
}



async function publish(text) {
    const eventId = token();
    sent.set(eventId, performance.now());
    const answer = await fetch(`/pub?id=${channel}`, { method: 'POST', body: text, headers: { 'Event-Id': eventId } }).catch(() => null);
    if (answer?.ok) published++;
    say(answer?.ok ? 'open' : 'waiting');
    for (const lane of lanes) lane.count.textContent = `${lane.got.size} of ${published}`;
}

say('open');
lanes = LANES.map(lane => new Lane(lane));

at('say').addEventListener('submit', event => {
    event.preventDefault();
    publish(at('text').value);
});
at('ten').addEventListener('click', async () => {
    for (let number = 1; number <= 10; number++) await publish(`${at('text').value} ${number}`);
});
