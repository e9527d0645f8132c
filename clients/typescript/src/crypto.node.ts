/** The Web Crypto of Node, which in version 18 is no global. */
export { webcrypto as crypto } from "node:crypto";
