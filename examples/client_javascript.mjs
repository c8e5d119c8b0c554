// LangGraph's JavaScript client on `benchai serve`: a thread, a run that streams, a run that is joined, the store.
//
//     npm install @langchain/langgraph-sdk
//     node client_javascript.mjs [WORKFLOW] [TASK]
//
// The server's address stands in BENCHAI_URL (default: http://127.0.0.1:8085), its key, if it wants one, in BENCHAI_KEY.

import { Client } from "@langchain/langgraph-sdk";

const [workflow = "react", task = "What is 48 * 52?"] = process.argv.slice(2);
const client = new Client({
  apiUrl: process.env.BENCHAI_URL ?? "http://127.0.0.1:8085",
  apiKey: null, // or it would send the key of another service, if the environment has one
  defaultHeaders: process.env.BENCHAI_KEY ? { Authorization: `Bearer ${process.env.BENCHAI_KEY}` } : {},
});

const { thread_id: thread } = await client.threads.create({ metadata: { of: "client_javascript" } });
const input = { messages: [{ role: "user", content: task }] };

for await (const part of client.runs.stream(thread, workflow, { input, streamMode: ["updates", "values"], streamResumable: true })) {
  if (part.event === "updates") console.log("step:", ...Object.keys(part.data));
  if (part.event === "error") throw new Error(`the run failed: ${part.data.message}`);
}

const { run_id: run } = await client.runs.create(thread, workflow, { input });
const values = await client.runs.join(thread, run);
console.log("answer:", values.messages.at(-1).content);

const state = await client.threads.getState(thread);
const runs = await client.runs.list(thread);
console.log(`thread: ${state.values.messages.length} messages, ${runs.length} runs`);

await client.store.putItem(["examples", "javascript"], "last", { task });
const item = await client.store.getItem(["examples", "javascript"], "last");
console.log("kept:", item.value.task);
await client.threads.delete(thread);
