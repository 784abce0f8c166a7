// Moving charts, drawn by uPlot in the colours of the page.

/* global uPlot */

import { element } from '/frame.js';

const SECONDS = 180;

const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
    #data;
    #plot;

    // `series` are names; `format` writes a value with its unit.
    constructor(parent, title, series, format) {
        this.series = series;
        this.format = format;
        this.#data = [[], ...series.map(() => [])];
        this.now = element('p', { class: 'now', 'aria-live': 'off' });
        this.box = element('div', { class: 'chart', role: 'img', 'aria-label': `${title}, the last three minutes; the newest values are in the line above` });
        parent.append(element('section', { class: 'card' }, element('h2', {}, title), this.now, this.box));
        this.draw();
        this.write(null);
        new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(this.box);
    }

    #size() { return { width: this.box.clientWidth, height: this.box.clientHeight }; }

    draw() {
        this.#plot?.destroy();
        const axis = { stroke: color('--quiet'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
        this.#plot = new uPlot({
            ...this.#size(),
            cursor: { show: false },
            legend: { show: false },
            scales: {
                x: { range: (_, __, to) => [to - SECONDS, to] },
                y: { range: (_, __, to) => [0, to > 0 ? to * 1.15 : 1] },
            },
            axes: [axis, { ...axis, size: 64, values: (_, values) => values.map(value => this.format(value)) }],
            series: [{}, ...this.series.map((name, index) => ({
                label: name, stroke: color(`--series-${index + 1}`), width: 2, points: { show: false }, spanGaps: false,
            }))],
        }, this.#data, this.box);
    }

    // One value for each series, null where there is none; a time in milliseconds.
    add(at, values) {
        this.#data[0].push(at / 1000);
        values.forEach((value, index) => this.#data[index + 1].push(value));
        while (this.#data[0][0] < at / 1000 - SECONDS - 10) this.#data.forEach(column => column.shift());
        this.#plot.setData(this.#data);
        this.write(values);
    }

    write(values) {
        this.now.replaceChildren(...this.series.map((name, index) => {
            const value = values?.[index];
            return element('span', { class: `series-${index + 1}` }, `${name} ${value == null ? '–' : this.format(value)}`);
        }));
    }
}
