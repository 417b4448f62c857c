// A call of every tool. A tool without an entry here fails the checks that use them.
import assert from 'node:assert/strict';

// act does what needs no preview.
async function act(call, tool, args, done) {
  const result = await call(tool, args);
  assert.equal(result.status, done, `${tool} answers ${JSON.stringify(result)}`);
  return result;
}

// confirmed previews a change, then repeats it with the confirm code of the preview.
async function confirmed(call, tool, args, done) {
  const preview = await act(call, tool, args, 'confirmation_required');
  await act(call, tool, { ...args, confirm: preview.confirm }, done);
}

// calls try one tool each. call calls a tool and returns its structured content, aside does the same
// for what has to be there before, and name is one that no other run uses.
export const calls = {
  list_connections: async ({ call }) => {
    const { connections } = await call('list_connections', {});
    assert.deepEqual(connections.map((c) => c.name).sort(), ['at', 'ld', 'mt']);
  },
  list_tokens: async ({ call, aside }) => {
    const first = await aside('list_tokens', { connection: 'at', limit: 2 });
    const next = await call('list_tokens', { connection: 'at', limit: 2, cursor: first.next_cursor });
    assert.equal(next.tokens.length, 2);
    assert.notDeepEqual(next.tokens, first.tokens);
  },
  count_tokens: async ({ call }) => {
    const { groups } = await call('count_tokens', { group_by: 'connection' });
    assert.deepEqual(groups.map((g) => g.key).sort(), ['at', 'ld', 'mt']);
  },
  get_token: async ({ call, aside, name }) => {
    const { token } = await launchDarkly(aside, name);
    assert.equal((await call('get_token', { connection: 'ld', token_id: token.id })).token.id, token.id);
  },
  create_launchdarkly_token: async ({ call, name }) => {
    assert.equal((await launchDarkly(call, name)).token.name, name);
  },
  create_mailtrap_token: async ({ call, aside, name }) => {
    assert.equal((await mailtrap(call, aside, name)).token.name, name);
  },
  update_launchdarkly_token: async ({ call, aside, name }) => {
    const { token } = await launchDarkly(aside, name);
    await confirmed(call, 'update_launchdarkly_token', { connection: 'ld', token_id: token.id, description: 'changed' }, 'updated');
  },
  rotate_token: async ({ call, aside, name }) => {
    const { token } = await launchDarkly(aside, name);
    await confirmed(call, 'rotate_token', { connection: 'ld', token_id: token.id }, 'rotated');
  },
  revoke_token: async ({ call, aside, name }) => {
    const { token } = await mailtrap(aside, aside, name);
    await confirmed(call, 'revoke_token', { connection: 'mt', token_id: token.id, reason: 'conformance' }, 'revoked');
  },
  bulk_revoke_tokens: async ({ call, aside, name }) => {
    const token_ids = [];
    for (const n of [1, 2]) token_ids.push((await mailtrap(aside, aside, `${name}-${n}`)).token.id);
    await confirmed(call, 'bulk_revoke_tokens', { connection: 'mt', token_ids, reason: 'conformance' }, 'revoked');
  },
  deliver_secret: async ({ call, aside, name }) => {
    const { operation_id } = await launchDarkly(aside, name, { deliver_to: 'broken/x' }, 'escrowed');
    await act(call, 'deliver_secret', { operation_id, deliver_to: `files/${name}` }, 'delivered');
  },
  list_operations: async ({ call, aside, name }) => {
    await launchDarkly(aside, name);
    const { operations } = await call('list_operations', { connection: 'ld', outcome: 'done', limit: 1 });
    assert.equal(operations.length, 1);
  },
  get_operation: async ({ call, aside, name }) => {
    const { operation_id } = await launchDarkly(aside, name);
    assert.equal((await call('get_operation', { operation_id })).outcome, 'done');
  },
};

// launchDarkly creates a token that may read.
function launchDarkly(call, name, more, status = 'created') {
  return act(call, 'create_launchdarkly_token', { connection: 'ld', name, role: 'reader', ...more }, status);
}

// mailtrap creates a token that may read one project.
export async function mailtrap(call, aside, name) {
  const { resources } = await aside('create_mailtrap_token', { connection: 'mt', name });
  const { resource_id } = resources.find((r) => r.resource_type === 'project');
  const permissions = [{ resource_type: 'project', resource_id, access_level: 'viewer' }];
  return act(call, 'create_mailtrap_token', { connection: 'mt', name, permissions }, 'created');
}
