// dialogue.mjs CLIENT SUITE URL,URL,... [SCENARIO...]: plays scenarios with a real client and prints what it saw, one JSON
// object per line: {url, scenario, step, outcome, received} for each step, {url, scenario, http} at each scenario's end (unless
// the suite says that it is played over stdio too), and
// {url, scenario, fault} for each expectation that did not hold. The URLs are played at the same time, E2E_AT_ONCE of
// them where it is set, the scenarios of each one after another. Exits 0 when it has played all of them, faults or not.
import { Agent } from './agent.mjs';

const [kind, suiteName, urls, ...only] = process.argv.slice(2);
const { scenarios, http = true } = await import(`./suite-${suiteName}.mjs`);
const limit = 30_000;

// Play is what a scenario gets: a way to connect agents, and to write down what happens.
class Play {
  agents = [];

  constructor(url, name) {
    this.url = url;
    this.name = name;
  }

  print(line) {
    process.stdout.write(JSON.stringify({ url: this.url, scenario: this.name, ...line }) + '\n');
  }

  // Connects one more agent. Its HTTP exchanges are printed when the scenario ends.
  async connect(options) {
    const agent = await Agent.connect(kind, this.url, options);
    this.agents.push(agent);
    return agent;
  }

  // Runs one step and prints its outcome with all that the agent received meanwhile. Returns the result, or undefined
  // after an error, which is part of the transcript: `fails` says that one is expected, a check of it may follow; 'either' that there may be one.
  async step(agent, name, run, { fails = false } = {}) {
    let outcome = 'ok';
    let result;
    try {
      result = await run(agent);
    } catch (error) {
      outcome = { error: { name: error.name, code: error.code, message: error.message, data: error.data } };
    }
    if (fails !== 'either' && (outcome !== 'ok') !== fails) this.fault(`${name}: ${fails ? 'no error' : JSON.stringify(outcome)}`);
    this.print({ step: name, outcome, received: agent.take() });
    return result;
  }

  // Prints a line of the scenario's own making.
  note(name, value) {
    this.print({ step: name, outcome: value });
  }

  // Writes a fault unless the condition holds.
  check(condition, what) {
    if (!condition) this.fault(what);
  }

  fault(what) {
    this.print({ fault: what });
  }

  async end() {
    for (const agent of this.agents) await agent.close().catch((error) => this.fault(`closing: ${error.message}`));
    if (http) this.print({ http: this.agents.flatMap((agent) => agent.http).sort() });
  }
}

async function play(url, name, run) {
  const scene = new Play(url, name);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${limit} ms`)), limit);
  });
  try {
    await Promise.race([run(scene), late]);
  } catch (error) {
    scene.fault(String(error?.stack ?? error).replaceAll(process.cwd(), ''));
  } finally {
    clearTimeout(timer);
    await scene.end();
  }
}

async function playAll(url) {
  for (const [name, run] of Object.entries(scenarios)) {
    if (only.length === 0 || only.includes(name)) await play(url, name, run);
  }
}

const waiting = urls.split(',');
const lane = async () => {
  while (waiting.length > 0) await playAll(waiting.shift());
};
await Promise.all([...Array(Number(process.env.E2E_AT_ONCE ?? waiting.length))].map(lane));
process.stdout.write('', () => process.exit(0)); // once all is written: the rest would go with the process
