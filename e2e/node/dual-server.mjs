// A server of both eras on the official TypeScript server SDK 2.4.0: modern calls are answered in JSON unless something
// has to be said before the answer, legacy ones without sessions. Takes a free port of 127.0.0.1 and prints it.
import http from 'node:http';
import { acceptedContent, createMcpHandler, fromJsonSchema, inputRequired, McpServer } from '@modelcontextprotocol/server';

const object = (properties, required = Object.keys(properties)) => fromJsonSchema({ type: 'object', properties, required });
const text = (value) => ({ content: [{ type: 'text', text: value }] });

// Fulfilled when a call of `wait` has been cancelled: what a test sees of a cancellation on the server's side.
let cancelled;
const cancellation = new Promise((resolve) => (cancelled = resolve));
let listChange;

function build() {
  const server = new McpServer({ name: 'dual', version: '2.4.0' }, {
    capabilities: { tools: { listChanged: true }, resources: { subscribe: true } },
    instructions: 'Both eras, one URL.',
  });

  server.registerTool('echo', { inputSchema: object({ message: { type: 'string' } }) }, ({ message }) => text(message));

  server.registerTool('count', { inputSchema: object({ to: { type: 'integer' } }) }, async ({ to }, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (let progress = 1; progressToken !== undefined && progress <= to; progress++) {
      await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: to } });
    }
    return text(`counted to ${to}`);
  });

  // Reports progress once, then runs until it is cancelled.
  server.registerTool('wait', { inputSchema: object({}) }, async (_, ctx) => {
    const { signal } = ctx.mcpReq;
    const progressToken = ctx.mcpReq._meta?.progressToken;
    await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 1 } });
    await new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', resolve)));
    cancelled();
    return text('cancelled');
  });

  server.registerTool('cancelled', { inputSchema: object({}) }, () => cancellation.then(() => text('a call was cancelled')));

  server.registerTool('greet', { inputSchema: object({ greeting: { type: 'string' } }) }, ({ greeting }, ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'who');
    if (answer) return text(`${greeting} ${answer.name}`);
    const requestedSchema = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
    return inputRequired({ inputRequests: { who: inputRequired.elicit({ message: 'who?', requestedSchema }) } });
  });

  // Has its region sent in a header as well (SEP-2243).
  server.registerTool(
    'region',
    { inputSchema: object({ region: { type: 'string', 'x-mcp-header': 'Region' } }) },
    ({ region }) => text(region),
  );

  server.registerTool('touch', { inputSchema: object({}) }, () => {
    listChange.toolsChanged();
    listChange.resourceUpdated('dual://one');
    return text('touched');
  });

  server.registerResource('one', 'dual://one', { mimeType: 'text/plain' }, () => ({
    contents: [{ uri: 'dual://one', mimeType: 'text/plain', text: 'one' }],
  }));

  server.registerPrompt('hello', { argsSchema: object({ name: { type: 'string' } }) }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Say hello to ${name}.` } }],
  }));
  return server;
}

const handler = createMcpHandler(build);
listChange = handler.notify;

// Turns a node request into the web's Request and the handler's Response into a node response, piece by piece.
async function serve(req, res) {
  const left = new AbortController();
  res.on('close', () => left.abort());
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const request = new Request(`http://${req.headers.host}${req.url}`, {
    method: req.method,
    headers: Object.entries(req.headers).map(([name, value]) => [name, String(value)]),
    signal: left.signal,
    ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
  });
  const response = await handler.fetch(request);
  res.writeHead(response.status, Object.fromEntries(response.headers));
  res.flushHeaders();
  if (response.body) {
    const reader = response.body.getReader();
    res.on('close', () => reader.cancel().catch(() => {}));
    for (let part = await reader.read(); !part.done; part = await reader.read()) res.write(part.value);
  }
  res.end();
}

const server = http.createServer((req, res) => serve(req, res).catch((error) => res.destroy(error)));
server.listen(0, '127.0.0.1', () => process.stderr.write(`dual: listening on ${server.address().port}\n`));
