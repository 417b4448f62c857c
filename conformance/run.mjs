// Runs all checks of this folder against the built binary (make conformance).
//
// The conformance suite and the inspector want a newer Node.js than some machines have, so
// package.json brings one for Linux.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const oldest = [22, 19];

function node() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return process.execPath;
  const brought = join(here, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (existsSync(brought)) return brought;
  throw new Error(`Node.js ${oldest.join('.')} or newer is needed; this is ${process.versions.node}, and none comes with npm for ${process.platform} on ${process.arch}`);
}

const tests = readdirSync(here).filter((name) => name.endsWith('.test.mjs')).map((name) => join(here, name));
const run = spawnSync(node(), ['--test', '--test-force-exit', '--test-concurrency=2', '--test-timeout=180000', '--test-reporter=spec', ...tests], {
  cwd: here,
  stdio: 'inherit',
  timeout: 420_000,
});
if (run.error) throw run.error;
process.exit(run.status ?? 1);
