// The wire types of the schemas of an OpenAPI document: node generate.mjs < document > src/wire.ts
import openapiTS, { astToString } from "openapi-typescript";

const parts = [];
for await (const part of process.stdin) parts.push(part);
const { openapi, info, components } = JSON.parse(Buffer.concat(parts).toString());
const { schemas } = components;
const nodes = await openapiTS({ openapi, info, paths: {}, components: { schemas } });
console.log(
  `// Made by generate.mjs from the OpenAPI document of the service.\n\n${astToString(nodes)}`.trim(),
);
