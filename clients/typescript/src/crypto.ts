/** The Web Crypto of Deno, Workers and browsers. */
export const { crypto } = globalThis;
