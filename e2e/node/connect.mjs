// connect.mjs SDK TIMEOUT AGENTS URL...: connects agents, one after the other, to each URL, all URLs at the same time, and has
// each call the tool `echo`. SDK is ts-1.12, ts1, ts2 (legacy, as it comes) or ts2-auto, which asks for the era first and
// waits TIMEOUT milliseconds for an answer. Prints one JSON array: for each URL an array of {ms} or {error}.
const [kind, timeout, agents, ...urls] = process.argv.slice(2);

const packages = { 'ts-1.12': 'sdk-1.12.1', 'ts1': '@modelcontextprotocol/sdk' };

async function load() {
  if (!(kind in packages)) {
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    return { Client, Transport: StreamableHTTPClientTransport };
  }
  const { Client } = await import(`${packages[kind]}/client/index.js`);
  const { StreamableHTTPClientTransport } = await import(`${packages[kind]}/client/streamableHttp.js`);
  return { Client, Transport: StreamableHTTPClientTransport };
}

const { Client, Transport } = await load();
const negotiation = kind === 'ts2-auto' && { versionNegotiation: { mode: 'auto', probe: { timeoutMs: Number(timeout) } } };

async function connect(url) {
  const client = new Client({ name: `e2e-${kind}`, version: '1.0.0' }, { capabilities: {}, ...negotiation });
  const begun = performance.now();
  await client.connect(new Transport(new URL(url)));
  const ms = Math.round(performance.now() - begun);
  const result = await client.callTool({ name: 'echo', arguments: {} });
  if (result.content[0].text !== 'echo') throw new Error(`another answer: ${JSON.stringify(result)}`);
  await client.close();
  return { ms };
}

async function inARow(url) {
  const results = [];
  for (let n = 0; n < Number(agents); n++) {
    results.push(await connect(url).catch((error) => ({ error: `${error.name} ${error.code ?? ''}: ${error.message}` })));
  }
  return results;
}

process.stdout.write(JSON.stringify(await Promise.all(urls.map(inARow))) + '\n');
process.exit(0);
