// The SDK's client in a real browser, on a page of another origin that the server allows, and on one
// that it does not.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { join, normalize } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { Process, Vendors, stopAll, within } from './server.mjs';

const modules = join(import.meta.dirname, 'node_modules');
const imports = {
  '@modelcontextprotocol/client': '/@modelcontextprotocol/client/dist/index.mjs',
  '@modelcontextprotocol/client/_shims': '/@modelcontextprotocol/client/dist/shimsBrowser.mjs',
  '@modelcontextprotocol/core/internal': '/@modelcontextprotocol/core/dist/internal.mjs',
  eventsource: '/eventsource/dist/index.js',
  'eventsource-parser': '/eventsource-parser/dist/index.js',
  'eventsource-parser/stream': '/eventsource-parser/dist/stream.js',
  'pkce-challenge': '/pkce-challenge/dist/index.browser.js',
  'zod/v4': '/zod/v4/index.js',
};

// script connects with a session, without one and over SSE, and lists and calls tools.
async function script(url, headers) {
  const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const said = [];
  const say = async (what, act) => said.push(`${what}: ${await act().catch((error) => error.constructor.name)}`);
  const info = { name: 'browser', version: '1' };
  const requestInit = { headers };
  for (const [what, client, transport] of [
    ['modern', new Client(info, { versionNegotiation: { mode: { pin: '2026-07-28' } } }), new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit })],
    ['session', new Client(info), new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit })],
    ['sse', new Client(info), new SSEClientTransport(new URL(`${url}/sse`), { requestInit })],
  ]) {
    await say(what, async () => {
      await client.connect(transport);
      const { tools } = await client.listTools();
      const { structuredContent } = await client.callTool({ name: 'list_connections', arguments: {} });
      const hasSession = Boolean(transport.sessionId);
      await transport.terminateSession?.();
      await client.close();
      return `${tools.length > 0} ${structuredContent.connections.length} ${hasSession}`;
    });
  }
  await say('challenge', async () => {
    const refused = await fetch(`${url}/mcp`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' });
    return `${refused.status} ${refused.headers.get('WWW-Authenticate')}`;
  });
  await fetch('/said', { method: 'POST', body: said.join(' | ') });
}

let vendors, server, allowed, foreign;

// page serves the script to the browser, and hears what it says.
async function page() {
  let hear;
  const said = new Promise((done) => (hear = done));
  const pages = http.createServer(async (request, response) => {
    if (request.url === '/said') {
      hear(await text(request));
      response.end();
      return;
    }
    if (request.url === '/') {
      response.setHeader('Content-Type', 'text/html');
      response.end(`<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script><body>
        <script type="module">(${script})(${JSON.stringify(server.url)}, ${JSON.stringify(server.headers())})</script>`);
      return;
    }
    try {
      const file = await readFile(join(modules, normalize(request.url)));
      response.setHeader('Content-Type', 'text/javascript');
      response.end(file);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise((done) => pages.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${pages.address().port}`, said, close: () => pages.close() };
}

before(async () => {
  vendors = await Vendors.start();
  [allowed, foreign] = [await page(), await page()];
  server = await vendors.serve('browser', { args: ['--allowed-origins', allowed.url] });
});
after(async () => {
  allowed.close();
  foreign.close();
  await stopAll();
});

// browse opens a page and returns what it says, null where there is no browser.
async function browse({ url, said }) {
  const profile = join(vendors.home, `profile-${new URL(url).port}`);
  const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${profile}`, '--remote-debugging-port=0', `${url}/`];
  const browser = new Process('chromium', args, { env: { PATH: process.env.PATH, HOME: vendors.home } });
  const ended = browser.ended.then((how) => {
    if (how?.code === 'ENOENT') return null;
    throw new Error(`the browser has ended (${how}): ${browser.lines.join('\n')}`);
  });
  try {
    return await within(60_000, 'what the page says', Promise.race([said, ended]));
  } finally {
    browser.kill();
    await browser.ended;
  }
}

test('a page of an allowed origin uses the server, another one cannot', async (t) => {
  const said = await browse(allowed);
  if (said === null) {
    if (process.env.TOKENREEVE_TEST_BROWSER === 'required') assert.fail('chromium is not installed');
    return t.skip('no browser is installed; with Debian: apt-get install chromium');
  }
  assert.match(said, /^modern: true 3 false \| session: true 3 true \| sse: true 3 false \| challenge: 401 Bearer.*$/);
  assert.match(await browse(foreign), /^modern: \w*Error \| session: \w*Error \| sse: \w*Error \| challenge: TypeError$/);
});
