// Streams from a running Tok0n with the official Node SDK, and prints what came of each call as one JSON document.
import OpenAI from "openai";

const { TOK0N_BASE_URL: baseURL, TOK0N_API_KEY: apiKey, TOK0N_TOOL: tool } = process.env;
const client = new OpenAI({ baseURL, apiKey });
const completions = client.chat.completions;
const results = {};

const request = (prompt, more) => ({ model: "demo", messages: [{ role: "user", content: prompt }], ...more });
const stream = (prompt, more) => completions.create(request(prompt, { stream: true, ...more }));

async function attempt(name, call) {
  try {
    results[name] = await call();
  } catch (error) {
    const { status, code, param, type, message } = error;
    results[name] = { exception: error.constructor.name, status, code, param, type, message };
  }
}

async function read(chunks) {
  const texts = [];
  let reasoning = "";
  let finish = null;
  let last = null;
  for await (const chunk of chunks) {
    last = chunk;
    for (const { index, delta, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? "") + (delta.content ?? "");
      reasoning += delta.reasoning_content ?? "";
      finish = finish_reason ?? finish;
    }
  }
  return { texts, reasoning, finish, model: last.model, usage: last.usage };
}

if (process.argv[2] === "rejected") {
  await attempt("create", async () => read(await stream("text")));
  await attempt("helper", () => completions.stream(request("text")).finalContent());
} else {
  await attempt("text", async () => read(await stream("text")));
  await attempt("usage", async () => read(await stream("text", { stream_options: { include_usage: true } })));
  await attempt("quiet", async () => read(await stream("quiet")));
  await attempt("two", async () => read(await stream("two", { n: 2 })));
  await attempt("reasoning", async () => read(await stream("reasoning")));
  await attempt("logprobs", async () => {
    const { choices } = await completions.stream(request("logprobs", { logprobs: true })).finalChatCompletion();
    return choices[0].logprobs.content.map(({ token, logprob }) => [token, logprob]);
  });
  await attempt("tools", async () => {
    const helper = completions.stream(request("tools", { tools: [JSON.parse(tool)] }));
    return (await helper.finalMessage()).tool_calls.map(({ id, function: call }) => [id, call.name, call.arguments]);
  });
  await attempt("loop", async () => {
    const { type, function: definition } = JSON.parse(tool);
    const add = { type, function: { ...definition, parse: JSON.parse, function: ({ a, b }) => a + b } };
    return completions.runTools(request("tools", { stream: true, tools: [add] })).finalContent();
  });
  await attempt("helper", async () => {
    const deltas = [];
    const helper = completions.stream(request("text", { stream_options: { include_usage: true } }));
    helper.on("content", (delta) => deltas.push(delta));
    return { content: await helper.finalContent(), deltas, total: (await helper.totalUsage()).total_tokens };
  });
  await attempt("error", async () => read(await stream("error")));
  await attempt("cut", async () => read(await stream("cut")));
  await attempt("helper error", () => completions.stream(request("error")).finalContent());
  await attempt("late", async () => {
    const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
    const body = JSON.stringify(request("error", { stream: true }));
    const response = await fetch(`${baseURL}/chat/completions`, { method: "POST", headers, body });
    await new Promise((resolve) => setTimeout(resolve, 50)); // meanwhile everything has arrived
    let text = "";
    try {
      for await (const piece of response.body.pipeThrough(new TextDecoderStream())) text += piece;
    } catch {
      return text;
    }
  });
  await attempt("abort", async () => {
    const chunks = await stream("long");
    for await (const chunk of chunks) {
      chunks.controller.abort();
      return chunk.choices[0].delta.role;
    }
  });
}
console.log(JSON.stringify(results));
