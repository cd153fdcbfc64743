// Scenarios for a server with one tool, on any transport: the Go SDK's sse example and those that stand in for it.

export const scenarios = {
  async greet(play) {
    const agent = await play.connect();
    play.note('server', { version: agent.client.getServerVersion(), capabilities: agent.client.getServerCapabilities() });
    const { tools } = await play.step(agent, 'tools', () => agent.client.listTools());
    play.check(tools.length === 1, `${tools.length} tools`);
    const answer = await play.step(agent, 'call', () => agent.callTool(tools[0].name, { name: 'Ada' }));
    play.check(/Ada/.test(answer?.content[0].text), 'no greeting');
    await play.step(agent, 'ping', () => agent.client.ping());
    await play.step(agent, 'unknown tool', () => agent.callTool('no-such-tool', {}), { fails: true });
    await play.step(agent, 'unknown method', () => agent.request('no/such/method', {}), { fails: true });
  },

  async 'several clients'(play) {
    const agents = await Promise.all([...Array(4)].map(() => play.connect()));
    const { tools } = await agents[0].client.listTools();
    await Promise.all(agents.map((agent, i) => Promise.all([1, 2, 3].map((n) => agent.callTool(tools[0].name, { name: `${i}-${n}` })))));
    for (const [i, agent] of agents.entries()) {
      const received = agent.take();
      play.note(`agent ${i}`, { received });
      const names = [...JSON.stringify(received).matchAll(/Hi (\d)-(\d)/g)].map((match) => match[1]);
      play.check(names.length === 3 && names.every((name) => name === String(i)), `agent ${i} was greeted as ${names}`);
    }
  },
};
