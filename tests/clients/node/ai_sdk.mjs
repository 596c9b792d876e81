// Streams from a running Tok0n with the Vercel AI SDK, and prints what came of each call as one JSON document.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, stepCountIs, streamText, tool } from "ai";

const { TOK0N_BASE_URL: baseURL, TOK0N_API_KEY: apiKey, TOK0N_TOOL: definition } = process.env;
const { description, parameters } = JSON.parse(definition).function;
const add = { description, inputSchema: jsonSchema(parameters) };
const model = createOpenAICompatible({ name: "tok0n", baseURL, apiKey, includeUsage: true })("demo");
const results = {};

// An error becomes a part of the stream. A body that breaks off after it makes the SDK throw as well.
async function read(prompt, more) {
  const found = { text: "", reasoning: "", calls: [], finish: null, total: null, error: null };
  try {
    for await (const part of streamText({ model, prompt, onError() {}, ...more }).fullStream) {
      if (part.type === "text-delta") found.text += part.text;
      else if (part.type === "reasoning-delta") found.reasoning += part.text;
      else if (part.type === "tool-call") found.calls.push([part.toolCallId, part.toolName, part.input]);
      else if (part.type === "error") found.error = { message: part.error.message, status: part.error.statusCode };
      else if (part.type === "finish") [found.finish, found.total] = [part.finishReason, part.totalUsage.totalTokens];
    }
  } catch (error) {
    found.thrown = error.constructor.name;
  }
  return found;
}

if (process.argv[2] === "rejected") {
  results.text = await read("text");
} else {
  for (const prompt of ["text", "quiet", "reasoning", "error"]) results[prompt] = await read(prompt);
  results.tools = await read("tools", { tools: { add: tool(add) } });
  const tools = { add: tool({ ...add, execute: ({ a, b }) => a + b }) };
  results.loop = await read("tools", { tools, stopWhen: stepCountIs(2) });
  const leaving = new AbortController();
  for await (const part of streamText({ model, prompt: "long", abortSignal: leaving.signal }).fullStream) {
    if (part.type === "text-delta") leaving.abort();
    results.abort = part.type;
  }
}
console.log(JSON.stringify(results));
