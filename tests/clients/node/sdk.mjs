// Calls a running Tok0n with the official Node SDK, and prints what came of each call as one JSON document.
import OpenAI from "openai";

const { TOK0N_BASE_URL: baseURL, TOK0N_API_KEY: apiKey } = process.env;
const messages = [{ role: "user", content: "Hello" }];
const client = new OpenAI({ baseURL, apiKey });
const results = {};

async function attempt(name, call) {
  try {
    results[name] = await call();
  } catch (error) {
    const { status, code, param, type } = error;
    results[name] = { exception: error.constructor.name, status, code, param, type };
  }
}

await attempt("success", async () => {
  const { data, response } = await client.chat.completions
    .create({ model: "demo", messages, max_completion_tokens: 50 })
    .withResponse();
  return {
    content: data.choices[0].message.content,
    model: data.model,
    total: data.usage.total_tokens,
    charged: response.headers.get("x-tok0n-charged"),
  };
});
await attempt("models", async () => (await client.models.list()).data.map((model) => model.id));
await attempt("bad", () => client.chat.completions.create({ model: "demo", messages, temperature: 3 }));
await attempt("stream", () => client.chat.completions.create({ model: "demo", messages, stream: true }));
await attempt("model", () => client.models.retrieve("gpt-x"));
await attempt("key", () =>
  new OpenAI({ baseURL, apiKey: "sk-wrong" }).chat.completions.create({ model: "demo", messages }),
);
await attempt("not allowed", () =>
  new OpenAI({ baseURL, apiKey: process.env.TOK0N_NARROW_KEY }).chat.completions.create({ model: "demo", messages }),
);
await attempt("large", () =>
  client.chat.completions.create({ model: "demo", messages, max_completion_tokens: 1000, n: 128 }),
);
for (const name of ["failed", "unknown"]) {
  await attempt(name, () => client.chat.completions.create({ model: "demo", messages, user: name }));
}
console.log(JSON.stringify(results));
