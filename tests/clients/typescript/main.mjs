// Runs a function of a module with what stdin tells: node main.mjs ./module.js name
const parts = [];
for await (const part of process.stdin) parts.push(part);
const [, , module, name] = process.argv;
const found = await (await import(module))[name](...JSON.parse(Buffer.concat(parts).toString()));
console.log(JSON.stringify(found));
