// npm's openai client against the server of the first argument; prints what it got as JSON.
import { readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const [address, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}v1`, apiKey: "none", maxRetries: 0 });
const kind = (datum) => Buffer.from(datum.b64_json, "base64").subarray(1, 4).toString();
const file = () => toFile(readFileSync(picture), "image.png", { type: "image/png" });

async function typesOf(stream) {
  const types = [];
  for await (const event of await stream) types.push(event.type);
  return types;
}

async function errorOf(call) {
  try {
    await call;
    return "no error";
  } catch (error) {
    return [error.constructor.name, error.status, error.code];
  }
}

const prompt = "a panda";
const results = {
  generated: (await client.images.generate({ prompt, n: 2, model: "gpt-image-1" })).data.map(kind),
  streamed: await typesOf(client.images.generate({ prompt, stream: true, partial_images: 1 })),
  edited: (await client.images.edit({ prompt, image: await file(), response_format: "b64_json" })).data.map(kind),
  varied: (await client.images.createVariation({ image: await file(), response_format: "b64_json" })).data.map(kind),
  models: (await client.models.list()).data.map((model) => model.id),
  errors: [
    await errorOf(client.images.generate({ prompt, n: 100 })),
    await errorOf(client.models.retrieve("nope")),
    await errorOf(client.withOptions({ defaultHeaders: { Origin: "http://elsewhere" } }).models.list()),
    await errorOf(client.images.generate({ prompt, size: "x" })),
  ],
};
console.log(JSON.stringify(results));
