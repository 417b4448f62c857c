// The official conformance suite, over Streamable HTTP, at each revision of both eras. Every check
// must pass or stand in not-applicable.json, and what stands there must be true.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Process, Vendors, stopAll, within } from './server.mjs';

const suite = join(import.meta.dirname, 'node_modules', '@modelcontextprotocol', 'conformance', 'dist', 'index.js');
const list = JSON.parse(readFileSync(join(import.meta.dirname, 'not-applicable.json'), 'utf8'));

// The suite has frozen what the last two revisions require, and adds what it checks besides.
const revisions = {
  '2025-03-26': ['--suite', 'all', '--spec-version', '2025-03-26'],
  '2025-06-18': ['--suite', 'all', '--spec-version', '2025-06-18'],
  '2025-11-25': ['--requirements', '2025-11-25'],
  '2026-07-28': ['--requirements', '2026-07-28'],
};

// startProxy adds the caller's token, which the suite has no option for. All else passes as it is.
async function startProxy() {
  const proxy = http.createServer((request, response) => {
    const { target, headers } = proxy;
    const onward = http.request(target + request.url, { method: request.method, headers: { ...request.headers, ...headers }, setHost: false });
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((done) => proxy.listen(0, '127.0.0.1', done));
  return proxy;
}

let vendors, proxy, server, port;

before(async () => {
  vendors = await Vendors.start();
  proxy = await startProxy();
  port = proxy.address().port;
  server = await vendors.serve('suite', { args: ['--transport', 'http', '--allowed-hosts', `127.0.0.1:${port},localhost:${port}`] });
  proxy.target = server.url;
  proxy.headers = server.headers();
});

after(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await stopAll();
});

// run runs the suite and returns the results of each scenario, by name.
async function run(options) {
  const results = mkdtempSync(join(tmpdir(), 'tokenreeve-suite-'));
  const child = new Process(process.execPath, [suite, 'server', '--url', `http://127.0.0.1:${port}/mcp`, '-o', results, ...options]);
  try {
    await within(60_000, 'the suite', child.ended); // it exits with 1, since not everything applies
    const scenarios = [...child.out.matchAll(/^=== Running scenario: (\S+) ===$/gm)].map(([, name]) => name);
    assert.match(child.out, /^=== SUMMARY ===$/m, `the suite broke off: ${child.lines.slice(-20).join('\n')}`);
    const files = readdirSync(results);
    return new Map(
      scenarios.map((scenario) => {
        const file = files.find((name) => new RegExp(`^server-${scenario}-\\d{4}-`).test(name));
        return [scenario, file && JSON.parse(readFileSync(join(results, file, 'checks.json'), 'utf8'))];
      }),
    );
  } finally {
    child.kill();
    rmSync(results, { recursive: true, force: true });
  }
}

const listed = new Map(list.not_applicable.flatMap(({ checks, reason }) => checks.map((check) => [check, reason])));
const hollow = new Set(list.passes_without_meaning.checks);
const seen = new Set(); // of all checks, as SCENARIO/CHECK

for (const [revision, options] of Object.entries(revisions)) {
  describe(`the suite at ${revision}`, () => {
    let results = new Map();
    before(async () => (results = await run(options)));

    test('every scenario has results', () => {
      assert.ok(results.size > 0, 'it has run no scenario');
      assert.deepEqual([...results].filter(([, checks]) => !checks?.length).map(([scenario]) => scenario), []);
    });

    test('every check passes, or does not apply and is listed', (t) => {
      const problems = [];
      let passed = 0;
      let skipped = 0;
      for (const [scenario, checks = []] of results) {
        for (const { id, status, errorMessage } of checks) {
          const name = `${scenario}/${id}`;
          seen.add(name);
          const passes = status === 'SUCCESS' || status === 'INFO';
          passed += passes;
          skipped += listed.has(name);
          if (!passes && !listed.has(name)) problems.push(`${name}: ${status}: ${errorMessage}`);
          if (!passes && hollow.has(name)) problems.push(`${name} does not pass any more: see passes_without_meaning`);
          if (passes && listed.has(name)) problems.push(`${name} passes: take it out of not-applicable.json`);
        }
      }
      t.diagnostic(`${results.size} scenarios, ${passed} checks passed, ${skipped} do not apply`);
      if (problems.length) t.diagnostic(`the server logged:\n${server.lines.slice(-40).join('\n')}`);
      assert.deepEqual(problems, []);
    });
  });
}

test('what is listed exists, and nothing is listed twice', () => {
  const checks = [...list.not_applicable.flatMap((entry) => entry.checks), ...hollow];
  assert.deepEqual(checks.filter((check, i) => checks.indexOf(check) !== i), []);
  assert.deepEqual(checks.filter((check) => !seen.has(check)), []);
  assert.deepEqual(list.not_applicable.filter(({ reason }) => !reason), []);
});
