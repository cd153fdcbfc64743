// heal.mjs CLIENT URL: a real client that does as it is told and never begins a new session by itself. Commands come on
// stdin, one JSON object per line: {n, method, params} sends a request, {n, expect: METHOD} waits for a message of that
// method that came since the last one was waited for, {n, http: true} asks for the HTTP exchanges so far, {n, ask: true} has the user answer
// what the server asked. Each is answered on stdout by a line `reply N JSON`: {result}, {error}, {http}. Commands run at
// the same time; the client prints `connected` when they may come. It ends with stdin.
import { createInterface } from 'node:readline';
import { Agent } from './agent.mjs';

const [kind, url] = process.argv.slice(2);
const agent = await Agent.connect(kind, url);

let answer;
const answered = new Promise((resolve) => (answer = resolve));
agent.sample = async () => {
  await answered;
  return { role: 'assistant', model: 'stub', content: { type: 'text', text: 'late' } };
};

async function expect(method) {
  await agent.until(() => agent.received.some((m) => m.method === method), method, 30_000);
  const index = agent.received.findIndex((m) => m.method === method);
  return agent.received.splice(0, index + 1).at(-1);
}

async function run(command) {
  if (command.expect) return { result: await expect(command.expect) };
  if (command.http) return { http: agent.http };
  if (command.ask) {
    answer();
    await agent.until(() => agent.http.some((line) => /^POST response ->/.test(line)), 'the answer to the answer');
    return { http: agent.http };
  }
  return { result: await agent.request(command.method, command.params) };
}

async function obey(command) {
  let reply;
  try {
    reply = await run(command);
  } catch ({ name, code, message, data }) {
    reply = { error: { name, code, message, data } };
  }
  process.stdout.write(`reply ${command.n} ${JSON.stringify(reply)}\n`);
}

process.stdout.write('connected\n');
for await (const line of createInterface({ input: process.stdin })) obey(JSON.parse(line));
process.exit(0);
