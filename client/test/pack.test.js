// The package works in a project that has nothing else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const client = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(client, 'node_modules/.bin/tsc');

test('an empty project installs, imports, and compiles against it', t => {
  const dir = mkdtempSync(join(tmpdir(), 'push-stream-pack-'));
  t.after?.(() => rmSync(dir, { recursive: true }));
  const run = (program, ...args) => execFileSync(program, args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  execFileSync('npm', ['pack', '--pack-destination', dir], { cwd: client, stdio: 'ignore' });
  const [tarball] = readdirSync(dir);
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  run('npm', 'install', '--offline', '--no-audit', '--no-fund', `./${tarball}`);
  assert.deepEqual(readdirSync(join(dir, 'node_modules')).filter(name => name[0] !== '.'), ['nginx-push-stream-client'], 'no dependencies');

  writeFileSync(join(dir, 'try.js'), `
    import { PushError, Subscriber } from 'nginx-push-stream-client';
    const s = new Subscriber('http://127.0.0.1:9/', { channels: ['a'], signal: AbortSignal.abort() });
    console.log(s.state, s instanceof Subscriber, new PushError('network') instanceof Error);
  `);
  assert.equal(run('node', 'try.js'), 'closed true true\n');

  writeFileSync(join(dir, 'try.ts'), `
    import { Subscriber, type Message } from 'nginx-push-stream-client';
    import 'nginx-push-stream-client/compat';
    const s = new Subscriber('/', { channels: ['a'] });
    s.on('gap', gap => console.log(gap.missed?.toFixed()));
    export async function loop(): Promise<void> {
      for await (const m of s) { const one: Message = m; console.log(one.text, one.json<{ a: number }>().a); }
    }
    const old = new PushStream({ host: 'a', modes: 'websocket' });
    old.onmessage = (text, id, channel) => console.log(text, id.toFixed(), channel);
    // @ts-expect-error: no such transport
    new Subscriber('/', { channels: [], transports: ['pigeon'] });
  `);
  run(tsc, '--noEmit', '--strict', '--target', 'es2020', '--module', 'esnext', '--moduleResolution', 'bundler', 'try.ts');

  const files = run('tar', 'tzf', tarball).split('\n').filter(Boolean).map(name => name.replace('package/', ''));
  for (const name of ['package.json', 'dist/index.js', 'dist/index.js.map', 'dist/pushstream.js', 'dist/types/index.d.ts', 'src/index.ts']) {
    assert.ok(files.includes(name), name);
  }
  assert.equal(readFileSync(join(client, 'LICENSE'), 'utf8'), readFileSync(join(client, '../LICENSE'), 'utf8'), 'the licence of the project');
  assert.deepEqual(files.filter(name => !/^(dist|src)\/|^package.json$|^README.md$|^LICENSE$/.test(name)), []);
});
