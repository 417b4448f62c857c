// The built binary with simulated vendors: what each of the checks starts.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const binary = resolve(import.meta.dirname, '..', 'bin', 'tokenreeve');

const patience = 15_000; // ms, for a start or an end

// within fails where promise takes longer than ms.
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const running = new Set();

// stopAll ends whatever was started and still runs; each must end well.
export async function stopAll() {
  for (const one of [...running].reverse()) assert.equal(await one.stop(), 0, `it ended badly:\n${one.lines.join('\n')}`);
}

// Process is one that we started. It ends with this one at the latest.
export class Process {
  constructor(command, args, options = {}) {
    this.lines = []; // of standard error
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.out = '';
    this.child.stdout.on('data', (data) => (this.out += data));
    this.ended = new Promise((done) => {
      this.child.once('error', (error) => done(error));
      this.child.once('close', (code, signal) => done(signal ?? code));
    });
    createInterface({ input: this.child.stderr }).on('line', (line) => {
      this.lines.push(line);
      this.waiting?.();
    });
    this.kill = () => this.child.kill('SIGKILL');
    process.once('exit', this.kill);
    running.add(this);
    this.ended.then(() => {
      running.delete(this);
      process.removeListener('exit', this.kill);
    });
  }

  // line returns the first match in a line of standard error.
  async line(pattern) {
    const found = (async () => {
      for (let i = 0; ; i++) {
        while (i >= this.lines.length) {
          const ended = await Promise.race([new Promise((more) => (this.waiting = more)), this.ended.then(() => true)]);
          if (ended && i >= this.lines.length) throw new Error(`it has ended (${await this.ended}) without a line like ${pattern}:\n${this.lines.join('\n')}`);
        }
        const match = pattern.exec(this.lines[i]);
        if (match) return match;
      }
    })();
    return within(patience, `a line like ${pattern}`, found);
  }

  // stop ends the process and returns its exit status.
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    try {
      return await within(patience, `the end after ${signal}`, this.ended);
    } catch (error) {
      this.kill();
      throw new Error(`${error.message}; it has logged:\n${this.lines.join('\n')}`);
    }
  }
}

// Vendors are the simulated vendors, and a home with a configuration for them.
export class Vendors {
  static async start() {
    const vendors = new Vendors();
    vendors.home = mkdtempSync(join(tmpdir(), 'tokenreeve-conformance-'));
    process.once('exit', () => rmSync(vendors.home, { recursive: true, force: true }));
    vendors.process = new Process(binary, ['sandbox', '--seed', '5', '--tokens', '90'], { env: {} });
    const first = new Promise((done) => vendors.process.child.stdout.on('data', () => vendors.process.out.includes('\n') && done()));
    const ended = vendors.process.ended.then(() => {
      throw new Error(`the sandbox has ended: ${vendors.process.lines.join('\n')}`);
    });
    await within(patience, 'the start of the sandbox', Promise.race([first, ended]));
    vendors.access = JSON.parse(vendors.process.out);
    return vendors;
  }

  // configure writes a configuration of all vendors and returns its path. Each has a state of its own.
  configure(name, more = {}) {
    const dir = mkdtempSync(join(this.home, `${name}-`));
    const credential = (vendor) => {
      const file = join(dir, `${vendor}.credential`);
      writeFileSync(file, this.access[vendor].credential, { mode: 0o600 });
      return { file };
    };
    const { atlassian, launchdarkly, mailtrap } = this.access;
    const config = {
      connections: {
        at: { provider: 'atlassian', base_url: atlassian.base_url, org_id: atlassian.org_id, credential: credential('atlassian') },
        ld: { provider: 'launchdarkly', base_url: launchdarkly.base_url, credential: credential('launchdarkly'), sink: 'files' },
        mt: { provider: 'mailtrap', base_url: mailtrap.base_url, account_id: mailtrap.account_id, credential: credential('mailtrap'), sink: 'files' },
      },
      sinks: { files: { type: 'file', directory: join(dir, 'secrets') }, broken: { type: 'exec', argv: ['/bin/false', '{key}'], accept: { prefixes: ['x'] } } },
      ...more,
    };
    const file = join(dir, 'config.json');
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  }

  // fault has the simulated vendors make a mistake.
  async fault(fault) {
    const response = await fetch(`${this.access.control}faults`, { method: 'POST', body: JSON.stringify(fault), headers: { 'Content-Type': 'application/json' } });
    assert.ok(response.ok, await response.text());
  }

  // fired waits until the faults were applied so many times.
  async fired(times) {
    const enough = async () => {
      for (;;) {
        const faults = await (await fetch(`${this.access.control}faults`)).json();
        if (faults.reduce((sum, fault) => sum + fault.fired, 0) >= times) return;
        await new Promise((later) => setTimeout(later, 10));
      }
    };
    await within(patience, `fault ${times}`, enough());
    await fetch(`${this.access.control}faults`, { method: 'DELETE' });
  }

  // command returns how to serve over stdio, as clients that start their server want it.
  command(config) {
    return { command: binary, args: ['--config', config, '--state-dir', `${config}.state`], env: {} };
  }

  // serve serves over HTTP, with a token for each of the callers.
  async serve(name, { callers = { alice: 'admin' }, args = [], ...more } = {}) {
    const tokens = Object.fromEntries(Object.keys(callers).map((caller) => [caller, randomBytes(24).toString('hex')]));
    const auth = {
      tokens: Object.entries(callers).map(([caller, role]) => ({ name: caller, role, sha256: createHash('sha256').update(tokens[caller]).digest('hex') })),
    };
    const server = await this.listen(this.configure(name, { auth, ...more }), '127.0.0.1:0', {}, args);
    server.tokens = tokens;
    server.headers = (caller = 'alice') => ({ Authorization: `Bearer ${tokens[caller]}` });
    return server;
  }
  // listen serves a configuration over HTTP.
  async listen(config, address, env, args = []) {
    const { command, args: global } = this.command(config);
    const server = new Process(command, [...global, '--log-level', 'debug', 'serve', '--listen', address, ...args], { env });
    server.url = (await server.line(/serves (http:\S+)\/(mcp|sse)$/))[1];
    return server;
  }
}
