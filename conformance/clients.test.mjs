// The official TypeScript SDK's clients, of its version 1 (2025 revisions) and 2 (2026-07-28 as
// well): each lists and calls every tool over each transport, and checks what comes back against
// the tool's output schema.
import * as modern from '@modelcontextprotocol/client';
import * as modernStdio from '@modelcontextprotocol/client/stdio';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { calls, mailtrap } from './calls.mjs';
import { Vendors, stopAll } from './server.mjs';

const info = { name: 'tokenreeve-conformance', version: '1' };
const newest = '2026-07-28';

let vendors, server;

before(async () => {
  vendors = await Vendors.start();
  server = await vendors.serve('clients');
});

after(stopAll);

const init = () => ({ requestInit: { headers: server.headers() } });
const pinned = { versionNegotiation: { mode: { pin: newest } } };

// clients are what to connect, with the revision that must be negotiated.
const clients = {
  'SDK 1 over stdio': () => [new Client(info), new StdioClientTransport(vendors.command(vendors.configure('stdio-1'))), '2025-11-25'],
  'SDK 1 over SSE': () => [new Client(info), new SSEClientTransport(new URL(`${server.url}/sse`), init()), '2025-11-25'],
  'SDK 1 over Streamable HTTP': () => [new Client(info), new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()), '2025-11-25'],
  'SDK 2 over stdio': () => [new modern.Client(info, pinned), new modernStdio.StdioClientTransport(vendors.command(vendors.configure('stdio-2'))), newest],
  'SDK 2 over SSE': () => [new modern.Client(info), new modern.SSEClientTransport(new URL(`${server.url}/sse`), init()), '2025-11-25'],
  'SDK 2 over Streamable HTTP': () => [new modern.Client(info, pinned), new modern.StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()), newest],
  'SDK 2 over Streamable HTTP, with a session': () => [new modern.Client(info), new modern.StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()), '2025-11-25'],
};

const answers = []; // of all tools to all clients

// caller returns a function that calls a tool and returns its structured content.
const caller = (client) => async (tool, args) => {
  const result = await client.callTool({ name: tool, arguments: args });
  answers.push(JSON.stringify(result));
  assert.ok(!result.isError && result.structuredContent, `${tool} fails: ${JSON.stringify(result.content)}`);
  return result.structuredContent;
};

for (const [i, [name, make]] of Object.entries(clients).entries()) {
  describe(name, () => {
    let client, tools, revision, told;

    before(async () => {
      let transport;
      [client, transport, revision] = make();
      // SDK 1 tells the revision to its transport only.
      const tell = transport.setProtocolVersion?.bind(transport);
      transport.setProtocolVersion = (version) => {
        told = version;
        tell?.(version);
      };
      await client.connect(transport);
      ({ tools } = await client.listTools()); // which has the client check results from now on
    });
    after(() => client.close());

    test('negotiates the revision, and is told who serves', () => {
      assert.equal(client.getNegotiatedProtocolVersion?.() ?? told, revision);
      assert.equal(client.getServerVersion().name, 'tokenreeve');
      assert.match(client.getInstructions(), /Secrets never appear/);
    });

    test('lists the tools that are called here, each with an output schema', () => {
      assert.deepEqual(tools.map((t) => t.name).sort(), Object.keys(calls).sort());
      assert.deepEqual(tools.filter((t) => t.outputSchema?.type !== 'object').map((t) => t.name), []);
    });

    for (const [tool, run] of Object.entries(calls)) {
      test(`calls ${tool}`, () => run({ call: caller(client), aside: caller(client), name: `${tool}-${i}` }));
    }
  });
}

// What the suite tests with sample tools: progress, questions to the user, and subscriptions.

const elicitation = { capabilities: { elicitation: {} } };
const asking = {
  'SDK 1 over stdio': () => [new Client(info, elicitation), new StdioClientTransport(vendors.command(vendors.configure('asking-1'))), ElicitRequestSchema],
  'SDK 1 over Streamable HTTP': () => [new Client(info, elicitation), new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()), ElicitRequestSchema],
  'SDK 2 over stdio': () => [new modern.Client(info, { ...elicitation, ...pinned }), new modernStdio.StdioClientTransport(vendors.command(vendors.configure('asking-2'))), 'elicitation/create'],
  'SDK 2 over Streamable HTTP': () => [new modern.Client(info, { ...elicitation, ...pinned }), new modern.StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()), 'elicitation/create'],
};

for (const [name, make] of Object.entries(asking)) {
  test(`${name} shows a bulk revocation's question to its user`, async (t) => {
    const [client, transport, method] = make();
    let answer; // to the phrase that the question wants typed
    client.setRequestHandler(method, ({ params }) => answer(/REVOKE \d+/.exec(params.message)[0], params));
    await client.connect(transport);
    t.after(() => client.close());

    const create = async (n) => (await mailtrap(caller(client), caller(client), `${name.replaceAll(' ', '-')}-${n}`)).token.id;
    const args = { connection: 'mt', token_ids: [await create(1), await create(2)], reason: 'conformance' };
    const bulk = (more) => client.callTool({ name: 'bulk_revoke_tokens', arguments: { ...args, ...more } });
    const { confirm } = (await bulk()).structuredContent;
    answer = () => ({ action: 'accept', content: { phrase: 'yes' } });
    assert.match(JSON.stringify((await bulk({ confirm })).content), /not_approved/);
    answer = () => ({ action: 'cancel' });
    assert.match(JSON.stringify((await bulk({ confirm })).content), /not_approved/);
    answer = (phrase, { requestedSchema }) => {
      assert.equal(requestedSchema.properties.phrase.type, 'string');
      return { action: 'accept', content: { phrase } };
    };
    assert.equal((await bulk({ confirm })).structuredContent.status, 'revoked');
  });
}

test('every client hears of progress while a vendor is slow', async (t) => {
  const heard = async (i, [name, make]) => {
    const [client, transport, revision] = make();
    await client.connect(transport);
    t.after(() => client.close());
    const steps = [];
    const options = { onprogress: (step) => steps.push(step.progress) };
    const request = { name: 'count_tokens', arguments: { connection: 'ld' } };
    const result = await (name.startsWith('SDK 1') ? client.callTool(request, undefined, options) : client.callTool(request, options));
    assert.ok(result.structuredContent, `${name}: ${JSON.stringify(result.content)}`);
    assert.ok(steps.length > 1, `${name} at ${revision} has heard ${JSON.stringify(steps)}`);
    assert.deepEqual(steps, [...new Set(steps)].sort((a, b) => a - b), `${name}: it must grow each time`);
  };
  await vendors.fault({ vendor: 'launchdarkly', path_prefix: '/api/v2/tokens', kind: 'latency', latency_ms: 3500, times: Object.keys(clients).length });
  await Promise.all(Object.entries(clients).map((client, i) => heard(i, client)));
});

for (const name of ['SDK 2 over stdio', 'SDK 2 over Streamable HTTP']) {
  test(`${name} learns that there is nothing to subscribe to`, async (t) => {
    const [client, transport] = name.includes('stdio')
      ? [new modern.Client(info, pinned), new modernStdio.StdioClientTransport(vendors.command(vendors.configure('listening')))]
      : [new modern.Client(info, pinned), new modern.StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init())];
    await client.connect(transport);
    t.after(() => client.close());
    for (let i = 0; i < 20; i++) {
      const subscription = await client.listen({ toolsListChanged: true });
      assert.deepEqual(subscription.honoredFilter, {});
    }
  });
}

test('a question is answered once, with the state that came with it', async () => {
  const client = new modern.Client(info, pinned);
  await client.connect(new modern.StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), init()));
  const token_ids = [];
  for (const n of [1, 2]) token_ids.push((await mailtrap(caller(client), caller(client), `state-${n}`)).token.id);
  await client.close();

  const args = { connection: 'mt', token_ids, reason: 'conformance' };
  const bulk = async (more, answer) => {
    const _meta = {
      'io.modelcontextprotocol/protocolVersion': newest,
      'io.modelcontextprotocol/clientInfo': info,
      'io.modelcontextprotocol/clientCapabilities': { elicitation: {} },
    };
    const name = 'bulk_revoke_tokens';
    const response = await fetch(`${server.url}/mcp`, {
      method: 'POST',
      headers: {
        ...server.headers(), 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream',
        'Mcp-Protocol-Version': newest, 'Mcp-Method': 'tools/call', 'Mcp-Name': name,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: { ...args, ...more }, _meta, ...answer } }),
    });
    return (await response.json()).result;
  };
  const { confirm } = (await bulk()).structuredContent;
  const question = await bulk({ confirm });
  assert.equal(question.resultType, 'input_required');
  const [[id, { method, params }]] = Object.entries(question.inputRequests);
  assert.equal(method, 'elicitation/create');
  const inputResponses = { [id]: { action: 'accept', content: { phrase: /REVOKE \d+/.exec(params.message)[0] } } };
  for (const requestState of [`${question.requestState}x`, '', undefined]) {
    const refused = await bulk({ confirm }, { inputResponses, requestState });
    assert.ok(refused.isError && /not_approved/.test(refused.content[0].text), JSON.stringify(refused));
  }
  // A state that was not ours has ended the question; the next one can be answered, once.
  const { requestState } = await bulk({ confirm });
  assert.equal((await bulk({ confirm }, { inputResponses, requestState })).structuredContent.status, 'revoked');
  const again = await bulk({ confirm }, { inputResponses, requestState });
  assert.ok(again.structuredContent?.replayed || again.isError, JSON.stringify(again));
});

test('no answer held a secret', async () => {
  const secrets = await (await fetch(`${vendors.access.control}secrets`)).json();
  const all = JSON.stringify(secrets).match(/"[^"]{12,}"/g).map((text) => text.slice(1, -1));
  assert.ok(answers.length > 100 && all.length > 50);
  assert.deepEqual(all.filter((secret) => answers.some((answer) => answer.includes(secret))), []);
});
