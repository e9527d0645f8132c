import { run } from "./program.js";

const parts = [];
for await (const part of process.stdin) parts.push(part);
const { url, jwt, issuer } = JSON.parse(parts.join(""));
console.log(JSON.stringify(await run(url, jwt, issuer)));
