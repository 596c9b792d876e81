// Calls embeddings and responses with OpenAI's SDK for Node, and prints what came of each call as one JSON document.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { thrown } from "./errors.mjs";

const gateways = JSON.parse(process.env.TOK0N_GATEWAYS);
const client = (name, more) =>
  new OpenAI({ baseURL: gateways[name].base_url, apiKey: gateways[name].api_key, maxRetries: 0, ...more });
const sdk = client("good");
const model = "demo";
const text = { format: zodTextFormat(z.object({ name: z.string() }), "person") };

async function embed(input, more) {
  const { data, model, usage } = await sdk.embeddings.create({ model: "demo", input, ...more });
  return { vectors: data.map(({ embedding }) => embedding), model, total: usage.total_tokens };
}

async function stream() {
  const helper = sdk.responses.stream({ model, input: "Hello", text });
  const types = [];
  for await (const event of helper) types.push(event.type);
  const final = await helper.finalResponse();
  return { types, parsed: final.output_parsed, total: final.usage.total_tokens };
}

const created = await sdk.responses.create({ model, input: "Hello", instructions: "Be brief." });
const parsed = await sdk.responses.parse({ model, input: "Hello", text });
const results = {
  embeddings: {
    string: await embed("Hello"),
    array: await embed(["Hello", "World"]),
    tokens: await embed([1, 2, 3]),
    "arrays of tokens": await embed([[1, 2], [3]]),
    float: await embed("Hello", { encoding_format: "float", dimensions: 2 }),
    base64: await embed("Hello", { encoding_format: "base64" }),
  },
  create: { text: created.output_text, model: created.model, total: created.usage.total_tokens },
  parse: { parsed: parsed.output_parsed, total: parsed.usage.total_tokens },
  stream: await stream(),
  errors: {},
};

// The same failures on both endpoints.
const calls = {
  embeddings: (of, more) => of.embeddings.create({ model, input: "Hello", ...more }),
  responses: (of, more) => of.responses.create({ model, input: "Hello", ...more }),
};
for (const [name, call] of Object.entries(calls)) {
  results.errors[name] = {
    "wrong key": await thrown(() => call(client("good", { apiKey: "sk-wrong" }))),
    invalid: await thrown(() => call(sdk, { user: 1 })),
    "unknown field": await thrown(() => call(sdk, { nonsense: true })),
    "unknown model": await thrown(() => call(sdk, { model: "nobody" })),
    balance: await thrown(() => call(sdk, { input: "x".repeat(1_100_000) })),
    rate: await thrown(async () => (await call(client("limited")), call(client("limited")))),
    upstream: await thrown(() => call(client("failing"))),
  };
}
results.errors.models = { unknown: await thrown(() => sdk.models.retrieve("nobody")) };
console.log(JSON.stringify(results));
