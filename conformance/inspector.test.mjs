// The inspector's command line lists and calls every tool over each transport. Each call is a
// process of its own, so what has to be there before is made with a client of the SDK.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { calls } from './calls.mjs';
import { Process, Vendors, stopAll, within } from './server.mjs';

const inspector = join(import.meta.dirname, 'node_modules', '@modelcontextprotocol', 'inspector', 'clients', 'launcher', 'build', 'index.js');

let vendors, server, stdio;

before(async () => {
  vendors = await Vendors.start();
  server = await vendors.serve('inspector');
  stdio = vendors.command(vendors.configure('stdio'));
});
after(stopAll);

// inspect runs one method and returns its result.
async function inspect(target, ...options) {
  const args = [inspector, '--cli', '--format', 'json', ...options, ...target];
  const run = new Process(process.execPath, args, { env: { PATH: process.env.PATH, HOME: vendors.home } });
  try {
    const status = await within(30_000, `the inspector with ${options.join(' ')}`, run.ended);
    assert.equal(status, 0, `it exits with ${status}: ${run.lines.join('\n')}\n${run.out}`);
    return JSON.parse(run.out).result;
  } finally {
    run.kill();
  }
}

const url = (path) => ['--server-url', server.url + path, '--header', `Authorization: ${server.headers().Authorization}`];
const streamable = () => new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), { requestInit: { headers: server.headers() } });

const targets = {
  stdio: { of: () => ['--', stdio.command, ...stdio.args], beside: () => new StdioClientTransport(stdio) },
  SSE: { of: () => ['--transport', 'sse', ...url('/sse')], beside: streamable },
  'Streamable HTTP at 2026-07-28': { of: () => ['--transport', 'http', '--protocol-era', 'modern', ...url('/mcp')], beside: streamable },
};

for (const [name, { of, beside }] of Object.entries(targets)) {
  describe(`the inspector over ${name}`, { concurrency: 2 }, () => {
    const client = new Client({ name: 'tokenreeve-conformance', version: '1' });
    before(() => client.connect(beside()));
    after(() => client.close());

    test('lists the tools that are called here, and has nothing against their schemas', async () => {
      const { tools } = await inspect(of(), '--method', 'tools/list', '--strict');
      assert.deepEqual(tools.map((t) => t.name).sort(), Object.keys(calls).sort());
    });

    const call = async (tool, args) => {
      const { structuredContent } = await inspect(of(), '--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args));
      assert.ok(structuredContent, `${tool} has no structured content`);
      return structuredContent;
    };
    const aside = async (tool, args) => {
      const result = await client.callTool({ name: tool, arguments: args });
      assert.ok(result.structuredContent, `${tool} fails: ${JSON.stringify(result.content)}`);
      return result.structuredContent;
    };
    for (const [tool, run] of Object.entries(calls)) {
      test(`calls ${tool}`, () => run({ call, aside, name: `${tool}-${name.replaceAll(' ', '-')}` }));
    }
  });
}
