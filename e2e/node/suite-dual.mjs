// Scenarios for dual-server.mjs, which speaks both eras on one URL and answers modern calls in JSON where it can.

export const scenarios = {
  async initialize(play) {
    const agent = await play.connect();
    play.note('server', {
      version: agent.client.getServerVersion(),
      capabilities: agent.client.getServerCapabilities(),
      instructions: agent.client.getInstructions(),
      protocol: agent.client.getNegotiatedProtocolVersion?.() ?? agent.transport.protocolVersion,
      session: typeof agent.transport.sessionId,
    });
    await play.step(agent, 'tools', () => agent.client.listTools());
    await play.step(agent, 'resources', () => agent.client.listResources());
    await play.step(agent, 'prompts', () => agent.client.listPrompts());
  },

  async calls(play) {
    const agent = await play.connect();
    await play.step(agent, 'echo', () => agent.callTool('echo', { message: 'grüße' }));
    await play.step(agent, 'progress', () => agent.callTool('count', { to: 5 }, { onprogress: () => {} }));
    await play.step(agent, 'tools', () => agent.client.listTools());
    await play.step(agent, 'header argument', () => agent.callTool('region', { region: 'süd' }));
    await play.step(agent, 'read', () => agent.client.readResource({ uri: 'dual://one' }));
    await play.step(agent, 'prompt', () => agent.client.getPrompt({ name: 'hello', arguments: { name: 'Ada' } }));
  },

  async elicitation(play) {
    const agent = await play.connect();
    agent.elicit = async () => ({ action: 'accept', content: { name: 'Ada' } });
    await play.step(agent, 'greet', () => agent.callTool('greet', { greeting: 'hello' }));
  },

  async listen(play) {
    const agent = await play.connect();
    if (!agent.modern) return;
    const listening = await agent.client.listen({ toolsListChanged: true, resourceSubscriptions: ['dual://one'] });
    play.note('honoured', listening.honoredFilter);
    await play.step(agent, 'touch', async () => {
      await agent.callTool('touch', {});
      await agent.expect('notifications/tools/list_changed');
      await agent.expect('notifications/resources/updated');
    });
    await listening.close();
    play.note('closed', await listening.closed);
  },

  // In the modern era the closed stream cancels the call, and the server hears of it.
  async cancellation(play) {
    const agent = await play.connect();
    if (!agent.modern) return;
    const abort = new AbortController();
    const options = { signal: abort.signal, onprogress: () => abort.abort('changed my mind') };
    await play.step(agent, 'aborted', () => agent.callTool('wait', {}, options), { fails: true });
    await play.step(agent, 'the server knows', () => agent.callTool('cancelled', {}, { timeout: 10_000 }));
  },

  async errors(play) {
    const agent = await play.connect();
    await play.step(agent, 'unknown tool', () => agent.callTool('no-such-tool', {}), { fails: true });
    await play.step(agent, 'wrong arguments', () => agent.callTool('echo', { message: 7 }));
    await play.step(agent, 'unknown method', () => agent.request('no/such/method', { a: 1 }), { fails: true });
    await play.step(agent, 'unknown resource', () => agent.client.readResource({ uri: 'dual://none' }), { fails: true });
    await play.step(agent, 'fine again', () => agent.callTool('echo', { message: 'yes' }));
  },
};
