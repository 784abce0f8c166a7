// Makes dist/index.js (ESM) and dist/pushstream.js (a script for a page) with their source maps, and prints their sizes.
// With --check it writes nothing, and fails if the files in dist/ are not what the source gives.

import { build } from 'esbuild';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

// Bytes with gzip -9.
const LIMITS = { 'dist/index.js': 5200, 'dist/pushstream.js': 8192 };
const check = process.argv.includes('--check');
let failed = false;

const common = {
  bundle: true,
  minify: true,
  treeShaking: true,
  sourcemap: true,
  // The source is in the package, beside the map.
  sourcesContent: false,
  target: ['chrome80', 'safari14.1', 'firefox105'],
  // Chrome 80 has a?.b; esbuild means a?.(...b), which the source does not use.
  supported: { 'optional-chain': true },
  // Private members, and names that only our own files use for each other.
  mangleProps: /^(_.+|isKnown|had|settle|told|begin|ask|heard|isOver|comment|polled|room|anew|doubt|away|back|wasOpen|wasGood|wasCut|retryAfter|place|take|request)$/,
  legalComments: 'none',
  write: !check,
  logLevel: 'warning',
  // The script file is also for pages that require() it.
  logOverride: { 'commonjs-variable-in-esm': 'silent' },
};
const builds = [
  { entryPoints: ['src/index.ts'], outfile: 'dist/index.js', format: 'esm' },
  { entryPoints: ['src/script.ts'], outfile: 'dist/pushstream.js', format: 'iife' },
];
for (const one of builds) {
  const { outputFiles } = await build({ ...common, ...one });
  for (const file of outputFiles ?? []) {
    const committed = readFileSync(file.path, 'utf8');
    if (committed !== file.text) {
      console.error(`${file.path} is not what the source gives: npm run build`);
      failed = true;
    }
  }
  const size = gzipSync(readFileSync(one.outfile), { level: 9 }).length;
  const raw = readFileSync(one.outfile).length;
  console.log(`${one.outfile}: ${raw} bytes, ${size} with gzip -9, of ${LIMITS[one.outfile]}`);
  if (size > LIMITS[one.outfile]) {
    console.error('too large');
    failed = true;
  }
}
process.exitCode = failed ? 1 : 0;
