// Scenarios for the Go SDK's conformance everything-server: stateful it is a legacy server with sessions, stateless it
// serves both eras without a back channel. What a connection cannot do, for want of one, is part of the transcript.
//
// `live` says whether the server can ask and tell the client things of its own accord: by a GET stream in the legacy
// era, by input_required results and subscriptions/listen in the modern one.
const live = (agent) => agent.modern || agent.transport.sessionId !== undefined;

const watched = 'test://watched-resource'; // changes every three seconds

export const scenarios = {
  async initialize(play) {
    const agent = await play.connect();
    play.note('server', {
      version: agent.client.getServerVersion(),
      capabilities: agent.client.getServerCapabilities(),
      protocol: agent.client.getNegotiatedProtocolVersion?.() ?? agent.transport.protocolVersion,
      session: typeof agent.transport.sessionId,
    });
    if (!agent.modern) await play.step(agent, 'ping', () => agent.client.ping());
  },

  async lists(play) {
    const agent = await play.connect();
    const { tools } = await play.step(agent, 'tools', () => agent.client.listTools());
    const { prompts } = await play.step(agent, 'prompts', () => agent.client.listPrompts());
    const { resources } = await play.step(agent, 'resources', () => agent.client.listResources());
    const { resourceTemplates } = await play.step(agent, 'templates', () => agent.client.listResourceTemplates());
    const counts = [tools, prompts, resources, resourceTemplates].map((list) => list.length);
    play.check(counts.every((n) => n > 0), `short lists: ${counts}`);
  },

  async calls(play) {
    const agent = await play.connect();
    for (const name of [
      'test_simple_text',
      'test_image_content',
      'test_audio_content',
      'test_embedded_resource',
      'test_multiple_content_types',
      'test_error_handling',
      'test_logging_tool',
    ]) {
      await play.step(agent, name, () => agent.callTool(name, {}));
    }
    await play.step(agent, 'capability', () => agent.callTool('test_missing_capability', {}), { fails: !live(agent) });
    await play.step(agent, 'odd arguments', () => agent.callTool('json_schema_2020_12_tool', { name: 'Zoë \u0000 \ud83d\ude80', email: 'z@example.com' }));
  },

  // A tool whose argument travels in a header as well (SEP-2243); the client learns of it from the tool list.
  async 'header arguments'(play) {
    const agent = await play.connect();
    await play.step(agent, 'tools', () => agent.client.listTools());
    await play.step(agent, 'plain', () => agent.callTool('test_x_mcp_header', { region: 'eu-west-1', level: 3 }));
    await play.step(agent, 'encoded', () => agent.callTool('test_x_mcp_header', { region: ' Île-de-France ' }));
    await play.step(agent, 'absent', () => agent.callTool('test_x_mcp_header', {}));
  },

  async progress(play) {
    const agent = await play.connect();
    await play.step(agent, 'call', async () => {
      await agent.callTool('test_tool_with_progress', {}, { onprogress: () => {} });
      await agent.expect('notifications/progress', 3);
    });
  },

  async logging(play) {
    const agent = await play.connect();
    if (agent.modern) {
      const _meta = { 'io.modelcontextprotocol/logLevel': 'info' };
      await play.step(agent, 'messages', () => agent.request('tools/call', { name: 'test_tool_with_logging', arguments: {}, _meta }));
      await play.step(agent, 'none', () => agent.callTool('test_tool_with_logging', {}));
      return;
    }
    await play.step(agent, 'level', () => agent.client.setLoggingLevel('info'));
    await play.step(agent, 'messages', () => agent.callTool('test_tool_with_logging', {}));
  },

  async sampling(play) {
    const agent = await play.connect();
    const name = agent.modern ? 'test_input_required_result_sampling' : 'test_sampling';
    const answer = await play.step(agent, 'call', () => agent.callTool(name, { prompt: 'hello' }));
    if (live(agent)) play.check(answer.content[0].text.includes('stubbed'), 'the completion did not arrive');
  },

  async elicitation(play) {
    const agent = await play.connect();
    if (agent.modern) {
      agent.elicit = async () => ({ action: 'accept', content: { name: 'Ada', color: 'green', ok: true } });
      for (const what of ['elicitation', 'multi_round', 'request_state', 'multiple_inputs']) {
        const answer = await play.step(agent, what, () => agent.callTool(`test_input_required_result_${what}`, {}));
        play.check(answer.content.length === 1, `${what}: no answer`);
      }
      await play.step(agent, 'prompt', async () => {
        agent.elicit = async () => ({ action: 'accept', content: { context: 'a test' } });
        return agent.client.getPrompt({ name: 'test_input_required_result_prompt' });
      });
      return;
    }
    agent.elicit = async () => ({ action: 'accept', content: { username: 'ada' } });
    await play.step(agent, 'accepted', () => agent.callTool('test_elicitation', { message: 'who?' }));
    agent.elicit = async () => ({ action: 'decline' });
    await play.step(agent, 'declined', () => agent.callTool('test_elicitation', { message: 'who?' }));
    agent.elicit = async () => ({ action: 'accept', content: { untitledMulti: ['option1', 'option3'] } });
    await play.step(agent, 'enums', () => agent.callTool('test_elicitation_sep1330_enums', {}));
  },

  async roots(play) {
    const agent = await play.connect();
    if (agent.modern) await play.step(agent, 'call', () => agent.callTool('test_input_required_result_list_roots', {}));
    else await play.step(agent, 'told', () => agent.client.sendRootsListChanged());
  },

  async 'list changes'(play) {
    const agent = await play.connect();
    const listening = agent.modern && (await agent.client.listen({ toolsListChanged: true, promptsListChanged: true }));
    if (listening) play.note('honoured', listening.honoredFilter);
    for (const what of ['tool', 'prompt']) {
      await play.step(agent, what, async () => {
        await agent.callTool(`test_trigger_${what}_change`, {});
        if (live(agent)) await agent.expect(`notifications/${what}s/list_changed`);
      });
    }
    const { tools } = await play.step(agent, 'tools', () => agent.client.listTools());
    play.check(tools.some((tool) => tool.name.startsWith('__transient')), 'the new tool is not listed');
    if (listening) {
      await listening.close();
      play.note('closed', await listening.closed);
    }
  },

  async subscriptions(play) {
    const agent = await play.connect();
    if (agent.modern) {
      const listening = await agent.client.listen({ resourceSubscriptions: [watched] });
      await play.step(agent, 'update', () => agent.expect('notifications/resources/updated'));
      await listening.close();
      return;
    }
    if (!live(agent)) {
      await play.step(agent, 'subscribe', () => agent.client.subscribeResource({ uri: watched }));
      return;
    }
    await play.step(agent, 'subscribe and update', async () => {
      await agent.client.subscribeResource({ uri: watched });
      await agent.expect('notifications/resources/updated');
    });
    await play.step(agent, 'unsubscribe', () => agent.client.unsubscribeResource({ uri: watched }));
  },

  async completion(play) {
    const agent = await play.connect();
    await play.step(agent, 'prompt', () =>
      agent.client.complete({
        ref: { type: 'ref/prompt', name: 'test_prompt_with_arguments' },
        argument: { name: 'arg1', value: 'te' },
      }),
    );
  },

  async prompts(play) {
    const agent = await play.connect();
    await play.step(agent, 'simple', () => agent.client.getPrompt({ name: 'test_simple_prompt' }));
    await play.step(agent, 'arguments', () =>
      agent.client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'ä', arg2: '"' } }),
    );
    await play.step(agent, 'image', () => agent.client.getPrompt({ name: 'test_prompt_with_image' }));
  },

  async resources(play) {
    const agent = await play.connect();
    await play.step(agent, 'text', () => agent.client.readResource({ uri: 'test://static-text' }));
    await play.step(agent, 'binary', () => agent.client.readResource({ uri: 'test://static-binary' }));
    await play.step(agent, 'template', () => agent.client.readResource({ uri: 'test://template/12.3/data' }));
  },

  // Legacy: the client's user leaves a question open and gives up; it says so by a notification. Modern: the stream of a
  // running call is closed, which is the cancellation.
  async cancellation(play) {
    const agent = await play.connect();
    agent.ignored.add(agent.modern ? 'answer 0' : 'answer 1').add('notifications/cancelled');
    const abort = new AbortController();
    const options = { signal: abort.signal, onprogress: () => abort.abort('changed my mind') };
    const waits = !agent.modern && live(agent);
    agent.elicit = () => new Promise(() => setTimeout(() => abort.abort('changed my mind'), 50));
    await play.step(
      agent,
      'aborted',
      () => (waits ? agent.callTool('test_elicitation', { message: 'who?' }, options) : agent.callTool('test_tool_with_progress', {}, options)),
      { fails: true },
    );
    // The server answers the cancelled call all the same, and may or may not take its question back first.
    if (waits) await agent.until(() => agent.received.some((message) => message.result?.isError), 'the late answer');
    await play.step(agent, 'next', () => agent.callTool('test_simple_text', {}));
  },

  async errors(play) {
    const agent = await play.connect();
    await play.step(agent, 'unknown tool', () => agent.callTool('no-such-tool', {}), { fails: true });
    await play.step(agent, 'wrong arguments', () => agent.callTool('test_elicitation', { message: 7 }));
    await play.step(agent, 'unknown method', () => agent.request('no/such/method', { a: 1 }), { fails: true });
    await play.step(agent, 'invalid params', () => agent.request('tools/call', { name: 7 }), { fails: true });
    await play.step(agent, 'unknown prompt', () => agent.client.getPrompt({ name: 'no-such-prompt' }), { fails: true });
    await play.step(agent, 'unknown resource', () => agent.client.readResource({ uri: 'test://nowhere' }), { fails: true });
    await play.step(agent, 'fine again', () => agent.callTool('test_simple_text', {}));
  },

  async end(play) {
    const agent = await play.connect();
    const session = agent.transport.sessionId;
    await play.step(agent, 'delete', () => agent.transport.terminateSession());
    if (session === undefined) return;
    await agent.close();
    const late = await play.connect({ stream: false, transport: { sessionId: session } });
    await play.step(late, 'call with the ended session', () => late.callTool('test_simple_text', {}), { fails: true });
  },

  async 'several clients'(play) {
    const agents = await Promise.all([...Array(5)].map(() => play.connect()));
    await Promise.all(
      agents.map((agent, i) =>
        Promise.all([
          agent.callTool('test_tool_with_progress', {}, { onprogress: () => {} }),
          ...[...Array(10)].map((_, n) => agent.client.readResource({ uri: `test://template/${i}-${n}/data` })),
        ]),
      ),
    );
    for (const [i, agent] of agents.entries()) {
      const received = agent.take();
      const texts = JSON.stringify(received);
      const crossed = [...texts.matchAll(/test:\/\/template\/(\d)-/g)].filter((match) => match[1] !== String(i));
      play.note(`agent ${i}`, { received });
      play.check(crossed.length === 0, `agent ${i} got ${crossed.length} answers of others`);
    }
  },
};
