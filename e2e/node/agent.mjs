// The official TypeScript clients behind one face, with everything they receive written down.
//
// An Agent is one client with one transport. What its transport hands up (`received`) and every HTTP exchange that it
// makes (`http`) are recorded; what the two generations of the SDK spell differently is spelled one way here.
import { setTimeout as delay } from 'node:timers/promises';

// How each kind of client is built. `load` is called once per process and kind: importing both SDKs costs half a second.
const kinds = {
  'ts1': { load: loadFirst, transport: 'http' },
  'ts1-sse': { load: loadFirst, transport: 'sse' },
  'ts2': { load: loadSecond, transport: 'http' },
  'ts2-auto': { load: loadSecond, transport: 'http', versionNegotiation: { mode: 'auto' } },
  'ts2-sse': { load: loadSecond, transport: 'sse' },
};

async function loadFirst() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
  const types = await import('@modelcontextprotocol/sdk/types.js');
  const schemas = {
    'sampling/createMessage': types.CreateMessageRequestSchema,
    'elicitation/create': types.ElicitRequestSchema,
    'roots/list': types.ListRootsRequestSchema,
  };
  return {
    Client,
    http: StreamableHTTPClientTransport,
    sse: SSEClientTransport,
    stdio: async (server) => new (await import('@modelcontextprotocol/sdk/client/stdio.js')).StdioClientTransport(server),
    handle: (client, method, handler) => client.setRequestHandler(schemas[method], handler),
    callTool: (client, params, options) => client.callTool(params, undefined, options),
    request: (client, request, options) => client.request(request, types.ResultSchema, options),
  };
}

// A schema that accepts any result, in the shape that the second SDK takes schemas in (standardschema.dev).
const anything = { '~standard': { version: 1, vendor: 'e2e', validate: (value) => ({ value }) } };

async function loadSecond() {
  const { Client, StreamableHTTPClientTransport, SSEClientTransport } = await import('@modelcontextprotocol/client');
  return {
    Client,
    http: StreamableHTTPClientTransport,
    sse: SSEClientTransport,
    stdio: async (server) => new (await import('@modelcontextprotocol/client/stdio')).StdioClientTransport(server),
    handle: (client, method, handler) => client.setRequestHandler(method, handler),
    callTool: (client, params, options) => client.callTool(params, options),
    request: (client, request, options) => client.request(request, anything, options),
  };
}

const everyCapability = {
  sampling: {},
  elicitation: { form: {} },
  roots: { listChanged: true },
};

export class Agent {
  // Inbound messages since the last take(), in the order in which the transport handed them up.
  received = [];
  // One line per HTTP exchange, in the order of the requests.
  http = [];
  // What the agent's user does when asked; scenarios replace them.
  sample = async () => ({ role: 'assistant', model: 'stub', content: { type: 'text', text: 'a stubbed completion' } });
  elicit = async () => ({ action: 'accept', content: {} });
  roots = [{ uri: 'file:///project/one', name: 'one' }];
  // The groups that take() leaves out: an aborted call goes on for a while on a legacy server.
  ignored = new Set();

  #waiters = [];
  #sdk;

  // Connects a client of the given kind to url, `stdio:` with {command, args, env} as JSON among them. Options: capabilities (default: sampling, elicitation and roots),
  // transport (options of the SDK's transport), stream (default true: wait until the GET stream has been answered).
  static async connect(kind, url, options = {}) {
    const agent = new Agent();
    const { load, transport, versionNegotiation } = kinds[kind];
    const sdk = await load();
    agent.#sdk = sdk;
    agent.client = new sdk.Client(
      { name: `e2e-${kind}`, version: '1.0.0' },
      { capabilities: options.capabilities ?? everyCapability, ...(versionNegotiation && { versionNegotiation }) },
    );
    const capabilities = options.capabilities ?? everyCapability;
    if (capabilities.sampling) sdk.handle(agent.client, 'sampling/createMessage', (r, extra) => agent.sample(r, extra));
    if (capabilities.elicitation) sdk.handle(agent.client, 'elicitation/create', (r, extra) => agent.elicit(r, extra));
    if (capabilities.roots) sdk.handle(agent.client, 'roots/list', () => ({ roots: agent.roots }));
    const stdio = url.startsWith('stdio:') && { ...JSON.parse(decodeURIComponent(url.slice('stdio:'.length))), stderr: 'ignore' };
    agent.transport = stdio
      ? await sdk.stdio(stdio)
      : new sdk[transport](new URL(url), { ...options.transport, fetch: agent.#fetch });
    agent.#tap();
    await agent.client.connect(agent.transport);
    if (!stdio && transport === 'http' && options.stream !== false && !options.transport?.sessionId && !agent.modern) {
      await agent.until(() => agent.http.some((line) => /^GET .*->/.test(line)), 'the answer to the GET');
    }
    return agent;
  }

  // Whether the connection speaks 2026-07-28 or newer.
  get modern() {
    return this.client.getProtocolEra?.() === 'modern';
  }

  // The messages received since the last call, grouped by what orders them, as [group, messages] pairs sorted by group.
  // Messages of one request keep their order, its progress included; those of different streams have none.
  take() {
    const groups = new Map();
    for (const message of this.received.splice(0)) {
      const group = groupOf(message);
      if (this.ignored.has(group)) continue;
      groups.set(group, [...(groups.get(group) ?? []), message]);
    }
    return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  // Waits until n messages of the method have been received since the last take().
  async expect(method, n = 1) {
    await this.until(() => this.received.filter((m) => m.method === method).length >= n, `${n} ${method}`);
  }

  // Waits until condition holds; it is looked at after every message and every HTTP answer.
  async until(condition, what, timeout = 10_000) {
    if (condition()) return;
    const waiter = { condition };
    const held = new Promise((resolve) => (waiter.resolve = resolve));
    this.#waiters.push(waiter);
    const late = new AbortController();
    const timer = delay(timeout, undefined, { signal: late.signal }).then(
      () => Promise.reject(new Error(`waited ${timeout} ms for ${what}`)),
      () => {},
    );
    try {
      await Promise.race([held, timer]);
    } finally {
      late.abort();
      this.#waiters = this.#waiters.filter((w) => w !== waiter);
    }
  }

  callTool(name, args, options) {
    return this.#sdk.callTool(this.client, { name, arguments: args }, options);
  }

  request(method, params, options) {
    return this.#sdk.request(this.client, { method, ...(params && { params }) }, options);
  }

  // Closes the client once all that it has sent was answered, so that a transcript does not depend on who is faster.
  async close() {
    await this.until(() => this.http.every((line) => line.includes(' -> ')), 'the answers to all requests');
    await this.client.close();
  }

  // Sees each message before the client does. An accessor, because the SDK assigns onmessage, sometimes more than once.
  #tap() {
    let inner;
    Object.defineProperty(this.transport, 'onmessage', {
      get: () => inner && this.#record(inner),
      set: (handler) => (inner = handler),
    });
  }

  #record(inner) {
    return (message, extra) => {
      this.received.push(message);
      inner(message, extra);
      this.#wake();
    };
  }

  #wake() {
    for (const waiter of this.#waiters) if (waiter.condition()) waiter.resolve();
  }

  #fetch = async (input, init = {}) => {
    const index = this.http.push(describe(init)) - 1;
    try {
      const response = await fetch(input, init);
      this.http[index] += ` -> ${await outcome(response)}`;
      return response;
    } catch (error) {
      this.http[index] += ` -> ${error.name}`;
      throw error;
    } finally {
      this.#wake();
    }
  };
}

// A response and the progress of its request share a group; the SDKs use the request's id as the progress token.
function groupOf(message) {
  if (message.method === 'notifications/progress') return `answer ${message.params.progressToken}`;
  if (message.method) return message.method;
  return `answer ${message.id}`;
}

function describe(init) {
  const method = init.method ?? 'GET';
  if (typeof init.body !== 'string') return new Headers(init.headers).has('last-event-id') ? `${method} resumed` : method;
  const body = JSON.parse(init.body);
  return `${method} ${body.method ?? 'response'}`;
}

// What an agent can see of a response: status, type, the headers of the protocol, whether the daemon had the answer at hand
// and, of an error, the body.
async function outcome(response) {
  const type = response.headers.get('content-type')?.split(';')[0];
  const seen = [response.status];
  if (type) seen.push(type);
  if (response.headers.has('mcp-session-id')) seen.push('session');
  if (/fluentd-perf; (hit|fwd=miss; collapsed)/.test(response.headers.get('cache-status'))) seen.push('cached');
  for (const name of ['allow', 'www-authenticate']) {
    if (response.headers.has(name)) seen.push(`${name}: ${response.headers.get(name)}`);
  }
  if (!response.ok) seen.push(JSON.stringify(await response.clone().text()));
  return seen.join(' ');
}
