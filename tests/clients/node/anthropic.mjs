// Calls messages with Anthropic's SDK for Node, and prints what came of each call as one JSON document.
import Anthropic from "@anthropic-ai/sdk";
import { thrown } from "./errors.mjs";

const gateways = JSON.parse(process.env.TOK0N_GATEWAYS);
const client = (name, more) =>
  new Anthropic({
    baseURL: gateways[name].base_url.replace(/\/v1$/, ""),
    apiKey: gateways[name].api_key,
    authToken: null,
    maxRetries: 0,
    ...more,
  });
const sdk = client("good");
const messages = [{ role: "user", content: "Hello" }];
const request = { model: "demo", max_tokens: 50, messages };
const read = ({ model, content, usage, stop_reason }) => [model, content[0].text, usage.output_tokens, stop_reason];

async function stream(of) {
  const helper = of.stream(request);
  const words = [];
  helper.on("text", (text) => words.push(text));
  return { words, final: read(await helper.finalMessage()) };
}

const call = (of, more) => of.messages.create({ ...request, ...more });
const results = {
  created: read(await call(sdk)),
  bearer: read(await call(client("good", { apiKey: null, authToken: gateways.good.api_key }))),
  beta: read(await sdk.beta.messages.create({ ...request, betas: ["interleaved-thinking-2025-05-14"] })),
  stream: await stream(sdk.messages),
  "beta stream": await stream(sdk.beta.messages),
  count: (await sdk.messages.countTokens({ model: "demo", messages })).input_tokens,
  "beta count": (await sdk.beta.messages.countTokens({ model: "demo", messages })).input_tokens,
  errors: {
    "wrong key": await thrown(() => call(client("good", { apiKey: "sk-ant-1" }))),
    "not allowed": await thrown(() => call(client("narrow"))),
    invalid: await thrown(() => call(sdk, { max_tokens: 0 })),
    "over the limit": await thrown(() => call(sdk, { max_tokens: 5_000 })),
    "unknown model": await thrown(() => call(sdk, { model: "nobody" })),
    "unknown path": await thrown(() => sdk.messages.batches.list()),
    balance: await thrown(() => call(sdk, { messages: [{ role: "user", content: "x".repeat(1_100_000) }] })),
    rate: await thrown(async () => (await call(client("limited")), call(client("limited")))),
    upstream: await thrown(() => call(client("failing"))),
  },
};
console.log(JSON.stringify(results));
