// Scenarios in which the stream of a running call ends before its answer, and the client comes back for the rest.

const back = (delay) => ({
  capabilities: {},
  transport: {
    reconnectionOptions: { initialReconnectionDelay: delay, maxReconnectionDelay: delay, reconnectionDelayGrowFactor: 1, maxRetries: 5 },
  },
});

async function play(scene, delay, tool, args, progress) {
  const agent = await scene.connect(back(delay));
  const answer = await scene.step(agent, 'call', async () => {
    const result = await agent.callTool(tool, args, { onprogress: () => {} });
    await agent.expect('notifications/progress', progress);
    return result;
  });
  scene.check(answer && !answer.isError, `the answer is ${JSON.stringify(answer)}`);
  scene.check(agent.http.some((line) => line.startsWith('GET resumed')), 'the client did not come back');
  await scene.step(agent, 'next', () => agent.client.ping());
}

export const scenarios = {
  // npm's server-everything: its event store only replays, so the client comes back when the call is over.
  replayed: (scene) => play(scene, 800, 'trigger-long-running-operation', { duration: 0.3, steps: 3 }, 3),

  // The resumable server of the tests: it goes on when the client has come back.
  live: (scene) => play(scene, 50, 'slow', {}, 3),

  // The same, but the server itself ends the stream (SEP-1699).
  polling: (scene) => play(scene, 5_000, 'poll', {}, 1),
};
