// conformance-client.mjs SDK URL: the client that the conformance suite's client scenarios ask for. SDK is ts1 or ts2; the
// suite names the scenario, the protocol version and what else the client has to know in MCP_CONFORMANCE_SCENARIO,
// _PROTOCOL_VERSION and _CONTEXT. Exits 0 when all that the scenario asks for was done.
import { randomUUID } from 'node:crypto';

const [kind, url] = process.argv.slice(2);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const redirect = 'http://localhost:3000/callback';

// What the two generations of the SDK spell differently. `finish` takes the parameters that the authorization server
// sent to the redirect URI.
const sdks = {
  async ts1() {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { UnauthorizedError } = await import('@modelcontextprotocol/sdk/client/auth.js');
    const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js');
    const grants = await import('@modelcontextprotocol/sdk/client/auth-extensions.js');
    return {
      Client,
      Transport: StreamableHTTPClientTransport,
      UnauthorizedError,
      grants,
      elicit: (client, handler) => client.setRequestHandler(ElicitRequestSchema, handler),
      finish: (transport, answer) => transport.finishAuth(answer.get('code')),
    };
  },
  async ts2() {
    const sdk = await import('@modelcontextprotocol/client');
    return {
      Client: sdk.Client,
      Transport: sdk.StreamableHTTPClientTransport,
      UnauthorizedError: sdk.UnauthorizedError,
      grants: sdk,
      elicit: (client, handler) => client.setRequestHandler('elicitation/create', handler),
      finish: (transport, answer) => transport.finishAuth(answer),
    };
  },
};
const sdk = await sdks[kind]();

// Provider keeps in memory what a client must remember, and follows the authorization URL as a browser would whose user
// says yes at once.
class Provider {
  #state = randomUUID();
  clientMetadataUrl = 'https://conformance-test.local/client-metadata.json';
  redirectUrl = redirect;
  clientMetadata = {
    client_name: 'conformance-client',
    redirect_uris: [redirect],
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  };

  // A registration is for the authorization server that gave it; the first SDK does not say which one it asks for.
  #registered = new Map();

  constructor(registered) {
    if (registered) this.#registered.set(registered.issuer, registered);
  }

  state = () => this.#state;
  clientInformation = (of) => this.#registered.get(of?.issuer);
  saveClientInformation = (information, of) => void this.#registered.set(of?.issuer, information);
  tokens = () => this.saved;
  saveTokens = (tokens) => void (this.saved = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);
  discoveryState = () => this.discovered;
  saveDiscoveryState = (discovered) => void (this.discovered = discovered);

  invalidateCredentials(scope) {
    if (scope === 'all' || scope === 'client') this.#registered.clear();
    if (scope === 'all' || scope === 'tokens') this.saved = undefined;
    if (scope === 'all' || scope === 'discovery') this.discovered = undefined;
  }

  async redirectToAuthorization(authorization) {
    const response = await fetch(authorization, { redirect: 'manual' });
    const location = response.headers.get('location');
    if (!location) throw new Error(`no redirect: ${response.status}`);
    this.answer = new URL(location).searchParams;
  }

  // The answer of the last redirect, once.
  take() {
    const answer = this.answer;
    this.answer = undefined;
    return answer;
  }
}

const signIns = 2; // how often a user would let one operation send him to the browser

// Connection is a client that signs in where it is sent to the authorization server, and then does the same again.
class Connection {
  constructor(provider, capabilities = {}) {
    this.provider = provider;
    this.capabilities = capabilities;
  }

  async #open() {
    this.client = new sdk.Client(
      { name: `conformance-${kind}`, version: '1.0.0' },
      { capabilities: this.capabilities, ...(modern && { versionNegotiation: { mode: 'auto' } }) },
    );
    if (this.capabilities.elicitation) sdk.elicit(this.client, this.onElicit);
    this.transport = new sdk.Transport(new URL(url), { authProvider: this.provider });
    await this.client.connect(this.transport);
  }

  onElicit = async () => ({ action: 'accept', content: {} });
  connect = () => this.#signedIn(() => this.#open());
  run = (operation) => this.#signedIn(() => operation(this.client));
  call = (name, args = {}) => this.run((client) => client.callTool({ name, arguments: args }));

  async #signedIn(operation) {
    for (let n = 0; ; n++) {
      try {
        return await operation();
      } catch (error) {
        const answer = this.provider?.take?.();
        if (!(error instanceof sdk.UnauthorizedError) || !answer || n === signIns) throw error;
        await sdk.finish(this.transport, answer);
        this.provider.invalidateCredentials('discovery'); // the server may name another one next time
      }
    }
  }

  close = () => this.client.close();
}

const tolerant = async (operation) => {
  try {
    return await operation();
  } catch (error) {
    console.error(`refused: ${error.message}`); // a scenario's server means to be refused now and then
  }
};

async function toolNamed(connection, name) {
  const { tools } = await connection.run((client) => client.listTools());
  const found = tools.find((tool) => tool.name === name);
  if (!found) throw new Error(`no tool ${name}`);
  return found;
}

const listed = async (c) => void (await c.run((client) => client.listTools()));

const calling = (name, args) => async (c) => {
  await toolNamed(c, name);
  await c.call(name, args);
};

const scenarios = {
  initialize: listed,
  'request-metadata': (c) => tolerant(() => listed(c)),
  'json-schema-ref-no-deref': (c) => tolerant(() => listed(c)),
  tools_call: calling('add_numbers', { a: 5, b: 3 }),
  'elicitation-sep1034-client-defaults': calling('test_client_elicitation_defaults'),
  'sse-retry': calling('test_reconnection'),

  async 'json-schema-2020-12-preservation'(c) {
    const { inputSchema } = await toolNamed(c, 'json_schema_2020_12_tool');
    await c.call('json_schema_echo', { schema: inputSchema });
  },

  async 'sep-2322-client-request-state'(c) {
    c.onElicit = async () => ({ action: 'accept', content: { confirmed: true } });
    for (const what of ['echo_state', 'no_state', 'unrelated', 'no_result_type']) await tolerant(() => c.call(`test_mrtr_${what}`));
  },

  async 'http-standard-headers'(c) {
    const { tools } = await c.run((client) => client.listTools());
    await tolerant(() => c.call(tools[0].name));
    const { resources } = await c.run((client) => client.listResources());
    await tolerant(() => c.run((client) => client.readResource({ uri: resources[0].uri })));
    const { prompts } = await c.run((client) => client.listPrompts());
    await tolerant(() => c.run((client) => client.getPrompt({ name: prompts[0].name, arguments: {} })));
  },

  async 'http-custom-headers'(c) {
    await listed(c);
    for (const { name, arguments: args } of context.toolCalls) await tolerant(() => c.call(name, args));
  },

  async 'http-invalid-tool-headers'(c) {
    const { tools } = await c.run((client) => client.listTools());
    for (const { name } of tools) await tolerant(() => c.call(name, { region: 'us-west1' }));
  },
};

// Every scenario of authorization wants a list and a call; they differ in how the client comes by its token.
async function authorized(c) {
  await listed(c);
  await c.call('test-tool');
}

const providers = {
  'auth/client-credentials-jwt': () =>
    new sdk.grants.PrivateKeyJwtProvider({
      clientId: context.client_id,
      privateKey: context.private_key_pem,
      algorithm: context.signing_algorithm,
    }),
  'auth/client-credentials-basic': () =>
    new sdk.grants.ClientCredentialsProvider({ clientId: context.client_id, clientSecret: context.client_secret }),
  'auth/pre-registration': () =>
    new Provider({
      client_id: context.client_id,
      client_secret: context.client_secret,
      redirect_uris: [redirect],
      ...(kind === 'ts2' && { issuer: context.issuer }),
    }),
};

function providerOf(name) {
  if (!name.startsWith('auth/')) return undefined;
  return (providers[name] ?? (() => new Provider()))();
}

const capabilitiesOf = {
  'elicitation-sep1034-client-defaults': { elicitation: { form: { applyDefaults: true } } },
  'sep-2322-client-request-state': { elicitation: { form: {} } },
};

const connection = new Connection(providerOf(scenario), capabilitiesOf[scenario]);
const play = scenarios[scenario] ?? (scenario.startsWith('auth/') && authorized);
if (!play) throw new Error(`no such scenario: ${scenario}`);
await connection.connect();
await play(connection);
await connection.close();
process.exit(0);
