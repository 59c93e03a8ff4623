// A session of the official TypeScript SDK with the fixture server as a process; what it saw, as
// JSON. The SDK is installed in FOLDER, unmodified: node driver_stdio.mjs FOLDER COMMAND ARGUMENTS
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, command, ...args] = process.argv.slice(2);
const require = createRequire(path.join(folder, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Client } = await load("client/index.js");
const { StdioClientTransport } = await load("client/stdio.js");
const types = await load("types.js");

const steps = [];
const client = new Client(
  { name: "wire", version: "1.0.0" },
  { capabilities: { sampling: {}, elicitation: {} } },
);
client.setRequestHandler(types.CreateMessageRequestSchema, async (request) => {
  steps.push(request.params.messages[0].content.text);
  return { role: "assistant", model: "none", content: { type: "text", text: "sampled" } };
});
client.setRequestHandler(types.ElicitRequestSchema, async (request) => {
  steps.push(request.params.message);
  return { action: "accept", content: { username: "ada", email: "ada@example.org" } };
});
client.setNotificationHandler(types.LoggingMessageNotificationSchema, (notification) => {
  steps.push(notification.params.data);
});
const transport = new StdioClientTransport({ command, args, env: { ...process.env }, stderr: "ignore" });
await client.connect(transport);
const call = (name, args = {}, options = undefined) =>
  client.callTool({ name, arguments: args }, undefined, options);
const aborting = new AbortController();
const story = {
  server: client.getServerVersion(),
  capabilities: client.getServerCapabilities(),
  tools: (await client.listTools()).tools,
  mixed: await call("test_multiple_content_types"),
  error: await call("test_error_handling"),
  unknown: await call("no_such_tool").catch((error) => String(error)),
  progress: await call("test_tool_with_progress", {}, {
    onprogress: (step) => steps.push([step.progress, step.total]),
  }),
  logging: await call("test_tool_with_logging"),
  sampling: await call("test_sampling", { prompt: "Say it" }),
  elicitation: await call("test_elicitation", { message: "Who?" }),
  aborted: await call("test_tool_with_progress", {}, {
    signal: aborting.signal,
    onprogress: () => aborting.abort("enough"),
  }).catch((error) => String(error)),
  after: await call("test_simple_text"),
  prompt: await client.getPrompt({
    name: "test_prompt_with_arguments",
    arguments: { arg1: "a", arg2: "b" },
  }),
  resource: await client.readResource({ uri: "test://static-binary" }),
  templates: await client.listResourceTemplates(),
  steps,
};
await client.close();
console.log(JSON.stringify(story));
