// Scenarios for any server, over stdio and through the daemon. E2E_CASTS says in JSON what there is to ask at each address: {steps: [{tool, prompt,
// resource or method, arguments, fails, either, legacy}], roots: whether the client has some, bare: whether it has no capabilities at all, same: the step that two agents ask again and again, row: one by one}.
const casts = JSON.parse(process.env.E2E_CASTS);
const optionsOf = ({ bare, roots }) => ({ capabilities: bare ? {} : { sampling: {}, elicitation: { form: {} }, ...(roots && { roots: {} }) } });

export const http = false;

// An agent after its handshake, and after what the server tells right then. A server/discover that was refused is a message over stdio, and a status over HTTP.
async function connect(play) {
  const cast = casts[play.url];
  const agent = await play.connect(optionsOf(cast));
  // One process says that once: to the first of the sessions that share it.
  const later = cast.bare && !play.url.startsWith('stdio:') && play.name !== 'dialogue';
  await agent.expect('notifications/tools/list_changed', later ? 0 : cast.changes);
  agent.take();
  // The daemon itself answers what a server asks to see whether there is somebody.
  agent.ignored.add('ping');
  return agent;
}

function ask(agent, { tool, prompt, resource, method, arguments: args }) {
  if (tool) return agent.callTool(tool, args ?? {}, { onprogress: () => {} });
  if (prompt) return agent.client.getPrompt({ name: prompt, ...(args && { arguments: args }) });
  if (resource) return agent.client.readResource({ uri: resource });
  return agent.request(method, args ?? {});
}

export const scenarios = {
  async dialogue(play) {
    const agent = await connect(play);
    const { client } = agent;
    const capabilities = client.getServerCapabilities();
    play.note('server', { version: client.getServerVersion(), capabilities, instructions: client.getInstructions(), modern: agent.modern });
    if (!agent.modern) await play.step(agent, 'ping', () => client.ping());
    if (capabilities.tools) await play.step(agent, 'tools', () => client.listTools());
    if (capabilities.prompts) await play.step(agent, 'prompts', () => client.listPrompts());
    if (capabilities.resources) {
      await play.step(agent, 'resources', () => client.listResources());
      await play.step(agent, 'templates', () => client.listResourceTemplates());
    }
    if (capabilities.logging && !agent.modern) await play.step(agent, 'level', () => client.setLoggingLevel('debug'));
    for (const [i, step] of casts[play.url].steps.entries()) {
      if (step.legacy && agent.modern) continue;
      if (step.method && agent.modern) continue; // 2026-07-28 answers an unknown method by 404 over HTTP: another error of the SDK's
      await play.step(agent, `step ${i}`, () => ask(agent, step), { fails: step.either ? 'either' : step.fails ?? false });
    }
  },

  async 'two agents'(play) {
    const agents = [await connect(play), await connect(play)];
    const cast = casts[play.url];
    const again = async (agent) => {
      const step = cast.steps[cast.same];
      let last = Promise.resolve();
      const all = [...Array(10)].map(() => (last = (cast.row ? last : Promise.resolve()).then(() => ask(agent, step))));
      await Promise.all(all).catch((error) => step.either || Promise.reject(error));
    };
    await Promise.all(agents.map(again));
    for (const [i, agent] of agents.entries()) play.note(`agent ${i}`, { received: agent.take() });
  },
};
