// Holds a conversation with a tool call in the Vercel AI SDK, and prints the results as one JSON document.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const access = { baseURL: process.env.TOK0N_BASE_URL, apiKey: process.env.TOK0N_API_KEY };
const prompt = 'Add.\n[call add {"a": 1, "b": 2}]';
const properties = { a: { type: "integer" }, b: { type: "integer" } };
const add = tool({
  description: "Add two numbers.",
  inputSchema: jsonSchema({ type: "object", properties, required: ["a", "b"], additionalProperties: false }),
  execute: ({ a, b }) => `the sum is ${a + b}`,
});

async function loop(model) {
  const providerOptions = { openai: { store: false } };
  const more = { model, tools: { add }, stopWhen: stepCountIs(2), maxOutputTokens: 200, providerOptions };
  const messages = [{ role: "user", content: prompt }];
  const first = await generateText({ ...more, messages });
  messages.push(...first.response.messages, { role: "user", content: "More" });
  const second = await generateText({ ...more, messages });
  const streamed = streamText({ ...more, prompt });
  const text = await streamed.text;
  const usages = [first.totalUsage, second.totalUsage, await streamed.totalUsage];
  const total = usages.reduce((sum, usage) => sum + usage.totalTokens, 0);
  return [first.text, total, text];
}

const results = {
  "@ai-sdk/openai": await loop(createOpenAI(access)("demo")),
  "@ai-sdk/anthropic": await loop(createAnthropic(access)("demo")),
};
console.log(JSON.stringify(results));
