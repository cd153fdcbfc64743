// Scenarios for npm's server-everything over Streamable HTTP (legacy, sessions, an event store).
import { setTimeout as delay } from 'node:timers/promises';

// With `roots` declared the server asks for them 350 ms after the handshake; scenarios that are not about roots leave
// the capability out, so that no message arrives at a time of its own.
const quiet = { capabilities: { sampling: {}, elicitation: {} } };
const subscribed = 'demo://resource/dynamic/text/1';

export const scenarios = {
  async initialize(play) {
    const agent = await play.connect(quiet);
    play.note('server', {
      version: agent.client.getServerVersion(),
      capabilities: agent.client.getServerCapabilities(),
      instructions: agent.client.getInstructions(),
      protocol: agent.transport.protocolVersion,
      session: typeof agent.transport.sessionId,
    });
    await play.step(agent, 'ping', () => agent.client.ping());
  },

  async lists(play) {
    const agent = await play.connect(quiet);
    const { tools } = await play.step(agent, 'tools', () => agent.client.listTools());
    const { prompts } = await play.step(agent, 'prompts', () => agent.client.listPrompts());
    const { resources } = await play.step(agent, 'resources', () => agent.client.listResources());
    const { resourceTemplates } = await play.step(agent, 'templates', () => agent.client.listResourceTemplates());
    const counts = [tools, prompts, resources, resourceTemplates].map((list) => list.length);
    play.check(counts.every((n) => n > 1), `short lists: ${counts}`);
  },

  async calls(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'echo', () => agent.callTool('echo', { message: 'grüße, 世界 \u2028 "quoted"' }));
    await play.step(agent, 'sum', () => agent.callTool('get-sum', { a: 0.1, b: 9007199254740991 }));
    await play.step(agent, 'image', () => agent.callTool('get-tiny-image', {}));
    await play.step(agent, 'annotated', () => agent.callTool('get-annotated-message', { messageType: 'error', includeImage: true }));
    await play.step(agent, 'structured', () => agent.callTool('get-structured-content', { location: 'Chicago' }));
    await play.step(agent, 'links', () => agent.callTool('get-resource-links', { count: 3 }));
    await play.step(agent, 'embedded', () => agent.callTool('get-resource-reference', { resourceType: 'Text', resourceId: 2 }));
    const long = 'x'.repeat(100_000);
    const answer = await play.step(agent, 'long', () => agent.callTool('echo', { message: long }));
    play.check(answer.content[0].text === `Echo: ${long}`, 'the long echo differs');
  },

  async progress(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'call', async () => {
      await agent.callTool('trigger-long-running-operation', { duration: 0.3, steps: 3 }, { onprogress: () => {} });
      await agent.expect('notifications/progress', 3);
    });
    await play.step(agent, 'without a token', () => agent.callTool('trigger-long-running-operation', { duration: 0.1, steps: 1 }));
  },

  async sampling(play) {
    const agent = await play.connect(quiet);
    let asked = 0;
    agent.sample = async (request) => {
      asked++;
      return { role: 'assistant', model: 'stub', content: { type: 'text', text: `${request.params.maxTokens} tokens at most` } };
    };
    await play.step(agent, 'call', () => agent.callTool('trigger-sampling-request', { prompt: 'hello', maxTokens: 7 }));
    play.check(asked === 1, `asked ${asked} times`);
    agent.sample = async () => {
      throw new Error('the user said no');
    };
    await play.step(agent, 'refused', () => agent.callTool('trigger-sampling-request', { prompt: 'hello' }));
  },

  async elicitation(play) {
    const agent = await play.connect(quiet);
    agent.elicit = async () => ({ action: 'accept', content: { name: 'Ada', check: true, integer: 7 } });
    await play.step(agent, 'accepted', () => agent.callTool('trigger-elicitation-request', {}));
    agent.elicit = async () => ({ action: 'decline' });
    await play.step(agent, 'declined', () => agent.callTool('trigger-elicitation-request', {}));
  },

  async roots(play) {
    const agent = await play.connect();
    await play.step(agent, 'asked after the handshake', () => agent.expect('notifications/message'));
    await play.step(agent, 'list', () => agent.callTool('get-roots-list', {}));
    agent.roots = [{ uri: 'file:///project/two', name: 'two' }, { uri: 'file:///project/three' }];
    await play.step(agent, 'changed', async () => {
      await agent.client.sendRootsListChanged();
      await agent.expect('notifications/message');
    });
    const answer = await play.step(agent, 'list again', () => agent.callTool('get-roots-list', {}));
    play.check(answer.content[0].text.includes('file:///project/three'), 'the new roots did not arrive');
  },

  async logging(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'level debug', () => agent.client.setLoggingLevel('debug'));
    await play.step(agent, 'a message', async () => {
      await agent.client.subscribeResource({ uri: subscribed });
      await agent.expect('notifications/message');
    });
    await play.step(agent, 'level error', () => agent.client.setLoggingLevel('error'));
    await play.step(agent, 'none', () => agent.client.unsubscribeResource({ uri: subscribed }));
  },

  async subscriptions(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'subscribe', async () => {
      await agent.client.subscribeResource({ uri: subscribed });
      await agent.expect('notifications/message');
    });
    await play.step(agent, 'update', async () => {
      await agent.callTool('toggle-subscriber-updates', {});
      await agent.expect('notifications/resources/updated');
    });
    await play.step(agent, 'off', () => agent.callTool('toggle-subscriber-updates', {}));
    await play.step(agent, 'unsubscribe', async () => {
      await agent.client.unsubscribeResource({ uri: subscribed });
      await agent.expect('notifications/message');
    });
  },

  async 'list changes'(play) {
    const agent = await play.connect(quiet);
    const name = 'notes.txt.gz';
    await play.step(agent, 'a new resource', async () => {
      await agent.callTool('gzip-file-as-resource', { name, data: 'data:text/plain,hello', outputType: 'resourceLink' });
      await agent.expect('notifications/resources/list_changed');
    });
    const { resources } = await play.step(agent, 'resources', () => agent.client.listResources());
    play.check(resources.some((resource) => resource.name === name), 'the new resource is not listed');
    await play.step(agent, 'read it', () => agent.client.readResource({ uri: `demo://resource/session/${name}` }));
  },

  async completion(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'prompt', () =>
      agent.client.complete({
        ref: { type: 'ref/prompt', name: 'completable-prompt' },
        argument: { name: 'department', value: 'E' },
      }),
    );
    await play.step(agent, 'template', () =>
      agent.client.complete({
        ref: { type: 'ref/resource', uri: 'demo://resource/dynamic/text/{resourceId}' },
        argument: { name: 'resourceId', value: '12' },
      }),
    );
  },

  async prompts(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'simple', () => agent.client.getPrompt({ name: 'simple-prompt' }));
    await play.step(agent, 'arguments', () => agent.client.getPrompt({ name: 'args-prompt', arguments: { city: 'Zürich', state: 'ZH' } }));
    await play.step(agent, 'resource', () =>
      agent.client.getPrompt({ name: 'resource-prompt', arguments: { resourceType: 'Text', resourceId: '1' } }),
    );
  },

  async resources(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'text', () => agent.client.readResource({ uri: subscribed }));
    await play.step(agent, 'blob', () => agent.client.readResource({ uri: 'demo://resource/dynamic/blob/1' }));
    const { resources } = await play.step(agent, 'list', () => agent.client.listResources());
    await play.step(agent, 'document', () => agent.client.readResource({ uri: resources[0].uri }));
  },

  // Aborts a call after its first progress; the session goes on. In the legacy era the client says so by a notification.
  async cancellation(play) {
    const agent = await play.connect(quiet);
    agent.ignored.add('answer 1');
    const abort = new AbortController();
    const options = { signal: abort.signal, onprogress: () => abort.abort('changed my mind') };
    await play.step(
      agent,
      'aborted',
      () => agent.callTool('trigger-long-running-operation', { duration: 1, steps: 5 }, options),
      { fails: true },
    );
    await play.step(agent, 'next', () => agent.callTool('echo', { message: 'still here' }));
    await agent.until(() => agent.http.some((line) => /notifications\/cancelled -> 202/.test(line)), 'the cancellation');
  },

  async errors(play) {
    const agent = await play.connect(quiet);
    await play.step(agent, 'unknown tool', () => agent.callTool('no-such-tool', {}));
    await play.step(agent, 'wrong arguments', () => agent.callTool('get-sum', { a: 'one' }));
    await play.step(agent, 'unknown method', () => agent.request('no/such/method', { a: 1 }), { fails: true });
    await play.step(agent, 'invalid params', () => agent.request('tools/call', { name: 7 }), { fails: true });
    await play.step(agent, 'unknown prompt', () => agent.client.getPrompt({ name: 'no-such-prompt' }), { fails: true });
    await play.step(agent, 'unknown resource', () => agent.client.readResource({ uri: 'demo://nowhere' }), { fails: true });
    await play.step(agent, 'fine again', () => agent.client.ping());
  },

  // The experimental tasks of 2025-11-25: relayed like any other method.
  async tasks(play) {
    const agent = await play.connect(quiet);
    const created = await play.step(agent, 'create', async () => {
      const params = { name: 'simulate-research-query', arguments: { topic: 'bees' }, task: { ttl: 60_000 } };
      const result = await agent.request('tools/call', params);
      await agent.expect('notifications/tasks/status');
      return result;
    });
    const taskId = created?.task?.taskId;
    await play.step(agent, 'cancel', () => agent.request('tasks/cancel', { taskId }));
    await play.step(agent, 'get', () => agent.request('tasks/get', { taskId }));
  },

  async end(play) {
    const agent = await play.connect(quiet);
    const session = agent.transport.sessionId;
    await play.step(agent, 'delete', () => agent.transport.terminateSession());
    await agent.close();
    const late = await play.connect({ ...quiet, stream: false, transport: { sessionId: session } });
    await play.step(late, 'call with the ended session', () => late.callTool('echo', { message: 'hello?' }), { fails: true });
  },

  // The client's own way to resume: another transport takes the session and the last event id over in mid-call. This
  // server's event store only replays, it does not go on live, so the heir comes when the call has been answered.
  async resume(play) {
    const agent = await play.connect(quiet);
    let token;
    const lost = agent
      .callTool('trigger-long-running-operation', { duration: 0.3, steps: 3 }, {
        onprogress: () => {},
        onresumptiontoken: (t) => (token ??= t), // of the first event: how many more come before the end is a matter of speed
      })
      .catch((error) => error);
    await agent.until(() => agent.received.some((m) => m.method === 'notifications/progress') && token, 'a first event');
    const { sessionId, protocolVersion } = agent.transport;
    play.note('before', { received: agent.take().map(([group, messages]) => [group, messages.slice(0, 1)]) });
    await agent.close();
    await lost;
    await delay(600);

    const heir = await play.connect({ ...quiet, stream: false, transport: { sessionId } });
    heir.transport.setProtocolVersion?.(protocolVersion);
    const answer = await play.step(heir, 'resumed', () =>
      heir.callTool('trigger-long-running-operation', { duration: 0.3, steps: 3 }, { resumptionToken: token }),
    );
    play.check(answer?.content[0].text.includes('completed'), 'no answer after the resumption');
  },

  async 'several clients'(play) {
    const agents = await Promise.all([...Array(5)].map(() => play.connect(quiet)));
    const answers = await Promise.all(
      agents.map((agent, i) =>
        Promise.all([
          agent.callTool('trigger-long-running-operation', { duration: 0.2, steps: 2 }, { onprogress: () => {} }),
          ...[...Array(10)].map((_, n) => agent.callTool('echo', { message: `agent ${i} call ${n}` })),
        ]),
      ),
    );
    for (const [i, agent] of agents.entries()) {
      play.note(`agent ${i}`, { received: agent.take() });
      const echoes = answers[i].slice(1).map((answer) => answer.content[0].text);
      play.check(echoes.every((text, n) => text === `Echo: agent ${i} call ${n}`), `agent ${i} got ${echoes}`);
    }
  },
};
