// sessions.mjs URL COUNT TOOL: so many sessions of the TypeScript client one after the other. Each connects, lists tools,
// prompts and resources, calls the tool and leaves. Prints a line `lists JSON` with what each session was given, and `done`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, count, tool] = process.argv.slice(2);
for (let i = 0; i < Number(count); i++) {
  const client = new Client({ name: 'e2e-ts', version: '1' });
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  const lists = [await client.listTools(), await client.listPrompts(), await client.listResources()];
  await client.callTool({ name: tool, arguments: { message: 'x' } });
  await transport.terminateSession();
  await client.close();
  console.log(`lists ${JSON.stringify(lists)}`);
}
console.log('done');
