// What real clients see where a transport says no, ends or comes back.
import * as modern from '@modelcontextprotocol/client';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Vendors, stopAll, within } from './server.mjs';

const info = { name: 'tokenreeve-conformance', version: '1' };
const origin = 'https://app.example';
const auto = { versionNegotiation: { mode: 'auto' } };

let vendors, server;

before(async () => {
  vendors = await Vendors.start();
  server = await vendors.serve('transports', {
    callers: { alice: 'admin', bob: 'viewer', carol: 'viewer', dora: 'admin' },
    args: ['--allowed-origins', origin, '--max-calls', '1', '--max-sessions', '6'],
  });
});
after(stopAll);

// connect returns a client that is connected as a caller, and its transport.
const kinds = {
  'SDK 1': (at, options) => [new Client(info), new StreamableHTTPClientTransport(new URL(`${at}/mcp`), options)],
  'SDK 1 over SSE': (at, options) => [new Client(info), new SSEClientTransport(new URL(`${at}/sse`), options)],
  'SDK 2': (at, options) => [new modern.Client(info, auto), new modern.StreamableHTTPClientTransport(new URL(`${at}/mcp`), options)],
  'SDK 2 with a session': (at, options) => [new modern.Client(info), new modern.StreamableHTTPClientTransport(new URL(`${at}/mcp`), options)],
};
async function connect(t, kind, { at = server, headers = at.headers(), ...more } = {}) {
  const [client, transport] = kinds[kind](at.url, { requestInit: { headers }, ...more });
  t.after(async () => {
    await transport.terminateSession?.().catch(() => {}); // which closing does not do
    await client.close();
  });
  await client.connect(transport);
  return [client, transport];
}

for (const kind of Object.keys(kinds)) {
  test(`${kind} shows its user why a token is refused`, async (t) => {
    await assert.rejects(connect(t, kind, { headers: { Authorization: 'Bearer not-a-token' } }), (error) => {
      // What the server says is shown, but by clients that keep the status alone.
      assert.match(error.message, /the bearer token is not accepted|\(HTTP 401\)|Non-200 status code \(401\)/);
      return true;
    });
  });

  test(`${kind} shows the model that too many calls are under way`, async (t) => {
    const [client] = await connect(t, kind);
    await vendors.fault({ vendor: 'launchdarkly', path_prefix: '/api/v2/tokens', kind: 'latency', latency_ms: 500, times: 1 });
    const call = () => client.callTool({ name: 'count_tokens', arguments: { connection: 'ld' } });
    const results = await Promise.all([call(), call()]);
    assert.equal(results.filter((r) => r.structuredContent?.total > 0).length, 1);
    const [refused] = results.filter((r) => r.isError);
    assert.match(refused.content[0].text, /too_many_calls.*wait until one of them was answered/);
  });
}

test('clients show their user that too many sessions are open, and how to go on', async (t) => {
  const headers = server.headers('dora');
  const refusals = [];
  for (let i = 0; i < 6; i++) await connect(t, 'SDK 1', { headers }).catch((error) => refusals.push(error.message));
  await connect(t, 'SDK 2 with a session', { headers }).catch((error) => refusals.push(error.message));
  assert.ok(refusals.length >= 2, 'the cap was not reached');
  for (const refusal of refusals) assert.match(refusal, /too_many_sessions.*end one that is not needed, or try again later/);
  const [client] = await connect(t, 'SDK 2', { headers }); // which needs none
  assert.ok((await client.listTools()).tools.length > 0);
});

test('a session ends with DELETE, and is nobody else\'s', async (t) => {
  const [client, transport] = await connect(t, 'SDK 1', { headers: server.headers('bob') });
  const ping = (caller) => fetch(`${server.url}/mcp`, {
    method: 'POST',
    headers: { ...server.headers(caller), 'Content-Type': 'application/json', 'Mcp-Session-Id': id },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  });
  const id = transport.sessionId;
  assert.equal((await ping('bob')).status, 200);
  assert.equal((await ping('carol')).status, 403);
  assert.equal((await fetch(`${server.url}/mcp`, { method: 'DELETE', headers: { ...server.headers('carol'), 'Mcp-Session-Id': id } })).status, 403);
  assert.ok((await client.listTools()).tools.every((tool) => tool.annotations.readOnlyHint), 'a viewer sees more than what reads');
  await transport.terminateSession();
  assert.equal((await ping('bob')).status, 404);
});

// A page of the allowed origin may send whatever the SDK's clients send, and read what they read.
test('a browser lets a page of the allowed origin use the clients', async (t) => {
  const sent = new Map(); // the headers of each method
  const recording = async (url, { method = 'GET', headers, ...more } = {}) => {
    const names = [...new Headers(headers).keys()];
    sent.set(method, new Set([...(sent.get(method) ?? []), ...names]));
    return fetch(url, { method, headers, ...more });
  };
  for (const kind of Object.keys(kinds)) {
    const [client, transport] = await connect(t, kind, { headers: server.headers('carol'), fetch: recording });
    await client.callTool({ name: 'list_connections', arguments: {} });
    await transport.terminateSession?.();
  }
  assert.deepEqual([...sent.keys()].sort(), ['DELETE', 'GET', 'POST']);
  for (const [method, names] of sent) {
    const asked = [...names].filter((name) => name !== 'accept').sort();
    assert.ok(asked.includes('authorization'));
    const preflight = await fetch(`${server.url}/mcp`, {
      method: 'OPTIONS',
      headers: { Origin: origin, 'Access-Control-Request-Method': method, 'Access-Control-Request-Headers': asked.join(',') },
    });
    const list = (header) => preflight.headers.get(header).toLowerCase().split(/, */);
    assert.ok(preflight.ok);
    assert.equal(preflight.headers.get('Access-Control-Allow-Origin'), origin);
    assert.ok(list('Access-Control-Allow-Methods').includes(method.toLowerCase()));
    assert.deepEqual(asked.filter((name) => !list('Access-Control-Allow-Headers').includes(name)), []);
  }
  const refused = await fetch(`${server.url}/mcp`, { method: 'POST', headers: { Origin: origin, 'Content-Type': 'application/json' }, body: '{}' });
  assert.equal(refused.status, 401);
  assert.equal(refused.headers.get('Access-Control-Allow-Origin'), origin);
  for (const name of ['mcp-session-id', 'www-authenticate', 'retry-after']) {
    assert.ok(refused.headers.get('Access-Control-Expose-Headers').toLowerCase().includes(name), name);
  }
  const other = await fetch(`${server.url}/mcp`, { method: 'OPTIONS', headers: { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'POST' } });
  assert.equal(other.status, 403);
  assert.equal(other.headers.get('Access-Control-Allow-Origin'), null);
});

test('a stop answers what is under way, ends every stream, and clients come back after a restart', async (t) => {
  const config = vendors.configure('restart');
  const env = { TOKENREEVE_BEARER_TOKEN: 'a-token-that-outlives-the-restart-0123456789' };
  const headers = { Authorization: `Bearer ${env.TOKENREEVE_BEARER_TOKEN}` };
  let at = await vendors.listen(config, '127.0.0.1:0', env);
  const address = new URL(at.url).host;
  const clients = {};
  for (const kind of Object.keys(kinds)) clients[kind] = await connect(t, kind, { at, headers });
  const [events] = clients['SDK 1 over SSE'];
  const closed = new Promise((done) => (events.onclose = done));

  await fetch(`${vendors.access.control}faults`, { method: 'DELETE' });
  await vendors.fault({ vendor: 'launchdarkly', path_prefix: '/api/v2/tokens', kind: 'latency', latency_ms: 1000, times: 4 });
  const calls = Object.values(clients).map(([client]) => client.callTool({ name: 'count_tokens', arguments: { connection: 'ld' } }));
  await vendors.fired(calls.length);
  at.child.kill('SIGTERM');
  for (const [i, result] of (await within(10_000, 'the answers', Promise.all(calls))).entries()) {
    assert.ok(result.structuredContent?.total > 0, `${Object.keys(clients)[i]}: ${JSON.stringify(result)}`);
  }
  assert.equal(await within(10_000, 'the end with clients connected', at.ended), 0);
  await within(5_000, 'the end of the event stream', Promise.race([closed, events.ping().catch(() => {})]));

  at = await vendors.listen(config, address, env);
  // The newest protocol goes on; a session that the server does not know is 404, so that clients begin anew.
  assert.ok((await clients['SDK 2'][0].listTools()).tools.length > 0);
  // A client over SSE opens its stream again by itself.
  const resumed = async () => {
    for (;;) {
      const tools = await events.listTools().then((listed) => listed.tools, () => []);
      if (tools.length > 0) return;
      await new Promise((later) => setTimeout(later, 100));
    }
  };
  await within(20_000, 'the return of the client over SSE', resumed());
  for (const kind of ['SDK 1', 'SDK 2 with a session']) {
    await assert.rejects(clients[kind][0].listTools(), /unknown_session.*begin a new one/, kind);
  }
  for (const kind of Object.keys(kinds)) {
    const [client] = await connect(t, kind, { at, headers });
    assert.ok((await client.listTools()).tools.length > 0, kind);
  }
});
