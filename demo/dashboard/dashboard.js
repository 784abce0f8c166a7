// The dashboard: reads /metrics every two seconds, one request at a time, not while the page is hidden.

import { Subscriber } from '/client/index.js';
import { Chart } from '/dashboard/charts.js';
import { Reading, quantile, rate } from '/dashboard/readings.js';
import { element, say } from '/frame.js';

const EVERY_MSEC = 2000;
const MODES = ['streaming', 'eventsource', 'websocket', 'long-polling', 'polling'];

const at = id => document.getElementById(id);

const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });
const count = value => compact.format(value);
const each = value => `${compact.format(value)}/s`;
const PREFIXES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
function bytes(value) {
    let power = 0;
    while (value >= 1024 && power < PREFIXES.length - 1) { value /= 1024; power++; }
    return `${value >= 100 || power === 0 ? value.toFixed(0) : value.toFixed(1)} ${PREFIXES[power]}`;
}
function seconds(value) {
    if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
    if (value < 1) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
    return `${value.toFixed(1)} s`;
}

const charts = {
    messages: new Chart(at('charts'), 'Messages a second', ['published', 'delivered'], each),
    delay: new Chart(at('charts'), 'Delay from publishing to writing', ['half', '99 of 100'], seconds),
    subscribers: new Chart(at('charts'), 'Subscribers by mode', MODES, count),
    bytes: new Chart(at('charts'), 'Bytes a second', ['published', 'sent'], value => `${bytes(value)}/s`),
};

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => Object.values(charts).forEach(chart => chart.draw()));

// ---- one reading

class Trouble extends Error { }

async function read() {
    let answer;
    let text;
    try {
        answer = await fetch('/metrics', { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
        text = await answer.text();
    } catch {
        throw new Trouble('The server does not answer. Asking again every two seconds.');
    }
    if (answer.status === 403 || answer.status === 401) throw new Trouble('The server gives its metrics to its own machine only: open this page there, or allow your address.');
    if (!answer.ok) throw new Trouble(`The server answers with status ${answer.status}.`);
    const reading = new Reading(text, Date.now());
    if (!reading.samples('build_info').length) throw new Trouble('What the server answers at /metrics is no metrics.');
    return reading;
}

function tile(id, text, unit = '') { at(id).replaceChildren(text, unit && element('small', {}, ` ${unit}`)); }

function table(id, rows, most, format, high) {
    at(id).querySelector('tbody').replaceChildren(...rows.map(([name, value]) => element('tr', {},
        element('th', { scope: 'row' }, name),
        element('td', {}, element('meter', { value: String(value), max: String(Math.max(most, 1)), ...high, 'aria-label': `${name}, share` })),
        element('td', { class: 'number' }, format(value)))));
}

function showNow(now) {
    const used = now.sum('zone_used_bytes');
    const size = now.sum('zone_size_bytes');
    tile('subscribers', count(now.sum('subscribers')));
    tile('channels', count(now.sum('channels')));
    tile('memory', `${(100 * used / size).toFixed(1)} %`, `of ${bytes(size)}`);
    table('zone', [...now.by('zone_used_bytes', 'kind'), ['free', now.sum('zone_free_bytes')]], size, bytes);
    const workers = [...now.by('worker_subscribers', 'worker')];
    table('workers', workers.map(([slot, value]) => [`worker ${slot}`, value]), Math.max(...workers.map(([, value]) => value)), count);
    const deaths = now.sum('worker_deaths_total');
    at('deaths').textContent = deaths ? `${deaths} died without leaving since the start; what they held is free again.` : 'None has died since the start.';
    charts.subscribers.add(now.at, MODES.map(mode => now.by('subscribers', 'mode').get(mode) ?? 0));
}

function showRates(now, before) {
    const [published, delivered] = ['published_messages_total', 'delivered_messages_total'].map(name => rate(now, before, name));
    const [half, most] = [0.5, 0.99].map(part => quantile(now, before, 'delivery_delay_seconds', part));
    tile('published', each(published));
    tile('delivered', each(delivered));
    tile('delay', most === null ? '–' : seconds(most));
    charts.messages.add(now.at, [published, delivered]);
    charts.delay.add(now.at, [half, most]);
    charts.bytes.add(now.at, ['published_bytes_total', 'sent_bytes_total'].map(name => rate(now, before, name)));
}

let before;
let said;

function status(text, isTrouble) {
    if (said === text) return;
    said = text;
    at('status').textContent = text;
    at('status').classList.toggle('wrong', isTrouble);
    say(isTrouble ? 'waiting' : 'open', isTrouble ? '' : 'metrics');
}

async function turn() {
    try {
        const now = await read();
        const info = now.samples('build_info')[0].labels;
        const since = new Date(now.sum('start_time_seconds') * 1000).toLocaleString();
        const isRestarted = before && !now.follows(before);
        status(`${isRestarted ? 'The server was started anew. ' : ''}Version ${info.version} in nginx ${info.nginx}, ${now.sum('workers')} workers, counting since ${since}.`, false);
        showNow(now);
        if (before && !isRestarted) showRates(now, before);
        before = now;
    } catch (error) {
        if (!(error instanceof Trouble)) throw error;
        status(error.message, true);
        for (const chart of Object.values(charts)) chart.add(Date.now(), chart.series.map(() => null));
    }
}

async function run() {
    for (;;) {
        if (!document.hidden) await turn();
        await new Promise(done => setTimeout(done, EVERY_MSEC));
    }
}

// ---- traffic

let traffic;

function stop() {
    clearInterval(traffic.timer);
    traffic.subscriber.close();
    traffic = undefined;
}

function start() {
    // Not that of the other pages: the bar at the top tells how the readings go.
    const subscriber = new Subscriber(location.origin, { channels: ['load'] });
    let number = 0;
    const publish = () => subscriber.publish('load', `message ${++number} of a page that makes traffic`).catch(() => { });
    traffic = { subscriber, timer: setInterval(publish, 1000 / Number(at('rate').value)) };
}

at('traffic').addEventListener('submit', event => {
    event.preventDefault();
    if (traffic) stop(); else start();
    at('run').textContent = traffic ? 'Stop' : 'Start';
    at('run').setAttribute('aria-pressed', String(!!traffic));
});
at('rate').addEventListener('change', () => { if (traffic) { stop(); start(); } });

run();
