// Readings of /metrics (Prometheus text format): parsing, and rates from two of them.

const PREFIX = 'nginx_push_stream_';
const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

export class Reading {
    #samples = new Map();       // name → [{ labels, value }]

    constructor(text, at) {
        this.at = at;
        for (const line of text.split('\n')) {
            const found = LINE.exec(line);
            if (!found || !found[1].startsWith(PREFIX)) continue;
            const name = found[1].slice(PREFIX.length);
            const labels = Object.fromEntries([...(found[2] ?? '').matchAll(LABEL)].map(([, key, value]) => [key, value]));
            if (!this.#samples.has(name)) this.#samples.set(name, []);
            this.#samples.get(name).push({ labels, value: Number(found[3]) });
        }
    }

    samples(name) { return this.#samples.get(name) ?? []; }

    // The sum of all samples of a name.
    sum(name) { return this.samples(name).reduce((sum, { value }) => sum + value, 0); }

    // Sums for each value of a label, in the order of the text.
    by(name, label) {
        const sums = new Map();
        for (const { labels, value } of this.samples(name)) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
        return sums;
    }

    // Another life of the shared memory, or counters that fell: rates with the reading before make no sense.
    follows(before) {
        return before.sum('start_time_seconds') === this.sum('start_time_seconds')
            && before.sum('published_messages_total') <= this.sum('published_messages_total');
    }
}

export function rate(now, before, name) { return (now.sum(name) - before.sum(name)) / ((now.at - before.at) / 1000); }

// The value below which this part of what a histogram has seen between two readings lies, or null if it has seen nothing.
export function quantile(now, before, name, part) {
    const was = before.by(`${name}_bucket`, 'le');
    const buckets = [...now.by(`${name}_bucket`, 'le')].map(([le, value]) => [le === '+Inf' ? Infinity : Number(le), value - (was.get(le) ?? 0)]);
    const all = buckets.at(-1)?.[1] ?? 0;
    if (!(all > 0)) return null;
    let [from, below] = [0, 0];
    for (const [le, count] of buckets) {
        if (count >= part * all) {
            return le === Infinity ? from : from + (le - from) * (part * all - below) / (count - below || 1);
        }
        [from, below] = [le, count];
    }
    return from;
}
