// oauth.mjs CLIENT: for each line `NUMBER URL` of standard input connects a client with discovery, gets a token where one is asked for,
// and calls the tool `greet`. CLIENT is ts1 or ts2. Prints for each `NUMBER JSON`: {text} or {error: {name, code, message}}. Ends with
// its input.
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';

const [kind] = process.argv.slice(2);

async function load() {
  if (kind === 'ts2') {
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    return { Client, Transport: StreamableHTTPClientTransport, finish: (transport, answer) => transport.finishAuth(answer) };
  }
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  return { Client, Transport: StreamableHTTPClientTransport, finish: (transport, answer) => transport.finishAuth(answer.get('code')) };
}

// Provider keeps in memory what a client must remember, and follows the authorization URL as a browser would whose user
// says yes at once.
class Provider {
  #state = randomUUID();

  get redirectUrl() {
    return 'http://127.0.0.1:9/callback';
  }

  get clientMetadata() {
    return { client_name: `e2e-${kind}`, redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none' };
  }

  state = () => this.#state;
  clientInformation = () => this.information;
  saveClientInformation = (information) => void (this.information = information);
  tokens = () => this.saved;
  saveTokens = (tokens) => void (this.saved = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);

  async redirectToAuthorization(authorization) {
    const response = await fetch(authorization, { redirect: 'manual' });
    const location = response.headers.get('location');
    if (!location) throw new Error(`no redirect: ${response.status} ${await response.text()}`);
    this.answer = new URL(location).searchParams;
    if (this.answer.get('state') !== this.#state) throw new Error('another state came back');
  }
}

const { Client, Transport, finish } = await load();

async function run(url) {
  const authProvider = new Provider();
  const connect = async () => {
    const transport = new Transport(new URL(url), { authProvider });
    const client = new Client({ name: `e2e-${kind}`, version: '1.0.0' });
    await client.connect(transport).catch((error) => {
      error.transport = transport;
      throw error;
    });
    return client;
  };
  const client = await connect().catch(async (error) => {
    if (!authProvider.answer) throw error;
    await finish(error.transport, authProvider.answer);
    return connect();
  });
  const result = await client.callTool({ name: 'greet', arguments: { name: 'Ada' } });
  await client.close();
  return { text: result.content[0].text };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [number, url] = line.split(' ');
  run(url)
    .catch((error) => ({ error: { name: error.name, code: error.code, message: error.message } }))
    .then((outcome) => process.stdout.write(`${number} ${JSON.stringify(outcome)}\n`));
}
process.exit(0);
